"""jwt_authn: which RPCs demand an access token, and how it is verified before it reaches a process."""

from mesh.contract import Contract, Rpc
from mesh.model.agreement import rpcs_of
from mesh.model.mesh import Mesh
from mesh.render.envoy.access_log import HEALTH_PATH
from mesh.render.envoy.json_path import path_match
from mesh.render.envoy.names import node_cluster
from mesh.render.envoy.placement import TokenRules
from mesh.render.envoy.resource import Resource, extension
from mesh.tokens.verifier import LEEWAY_SECONDS, MAX_LIFETIME_SECONDS

NAME = "envoy.filters.http.jwt_authn"

CLAIMS = "claims"
"""Where the claims of a verified token are, in this filter's dynamic metadata."""

_PROVIDER = "authmesh"
_TOKEN: Resource = {"provider_name": _PROVIDER}
_CLOCK_SKEW = LEEWAY_SECONDS
# Envoy counts from now and not from `iat`, so a clock that is ahead of ours must be allowed for.
_MAX_LIFETIME = MAX_LIFETIME_SECONDS + LEEWAY_SECONDS


def jwt_authn(mesh: Mesh, contract: Contract, tokens: TokenRules, nodes: tuple[str, ...]) -> Resource:
    """The filter for a listener that takes gRPC calls for `nodes`.

    Whatever is not expressly free of a token demands one: the last rule is `/`. A token is taken from the authorization
    header and nowhere else (Envoy's default takes `?access_token=` as well, which ends in logs).
    """
    free = [rpc.path for node in nodes for rpc in rpcs_of(mesh, contract, node) if not _demands_token(rpc)]
    rules: list[Resource] = [{"match": {"path": path}} for path in (HEALTH_PATH, *free)]
    return _filter(mesh, tokens, [*rules, {"match": {"prefix": "/"}, "requires": _TOKEN}])


def gateway_jwt_authn(mesh: Mesh, contract: Contract, tokens: TokenRules) -> Resource:
    """The filter for the gateway.

    It comes before the transcoder, so that nothing is kept of a body before its token is verified, and knows the paths
    of both forms. What is none of them demands no token and has no route: it is answered as unknown. Should the
    transcoder ever take another path for an RPC than these rules do, `gateway_rbac` refuses the call.
    """
    rpcs = [rpc for route in mesh.gateway_routes for rpc in contract.services[route.match.service_name]]
    free: list[Resource] = [
        {"match": {"path": path}} for path in (HEALTH_PATH, *(rpc.path for rpc in rpcs if not _demands_token(rpc)))
    ]
    in_json: list[Resource] = [
        {
            "match": {
                **path_match(binding.template),
                "headers": [{"name": ":method", "string_match": {"exact": binding.method}}],
            },
            **({"requires": _TOKEN} if _demands_token(rpc) else {}),
        }
        for rpc in rpcs
        for binding in rpc.http
    ]
    in_grpc: list[Resource] = [{"match": {"path": rpc.path}, "requires": _TOKEN} for rpc in rpcs if _demands_token(rpc)]
    return _filter(mesh, tokens, [*free, *in_grpc, *in_json])


def _demands_token(rpc: Rpc) -> bool:
    return rpc.access.WhichOneof("kind") not in ("public", "internal")


def _filter(mesh: Mesh, tokens: TokenRules, rules: list[Resource]) -> Resource:
    return extension(
        NAME,
        "filters.http.jwt_authn.v3.JwtAuthentication",
        bypass_cors_preflight=True,
        # Our own local replies say what is wrong; Envoy's challenge would call a token invalid because the JWKS can't
        # be had.
        strip_failure_response=True,
        providers={_PROVIDER: _provider(mesh, tokens)},
        rules=rules,
    )


def _provider(mesh: Mesh, tokens: TokenRules) -> Resource:
    # No jwt_cache_config: the cache would go on admitting tokens whose key is gone. No local_jwks: it never reloads.
    return {
        "issuer": tokens.issuer,
        "audiences": [tokens.audience],
        "require_expiration": True,
        "max_lifetime": f"{_MAX_LIFETIME}s",
        "clock_skew_seconds": _CLOCK_SKEW,
        "forward": True,
        "payload_in_metadata": CLAIMS,
        # What follows the scheme, whichever it is: Envoy compares a prefix letter by letter, and a scheme may be
        # written in any case (RFC 9110, 11.1). The process knows which schemes there are.
        "from_headers": [{"name": "authorization", "value_prefix": " "}],
        "remote_jwks": {
            "http_uri": {
                "uri": f"https://{mesh.jwks.virtual_service}{mesh.jwks.path}",
                "cluster": node_cluster(mesh, mesh.jwks_node()),
                "timeout": "2s",
            },
            "cache_duration": f"{tokens.jwks_cache}s",
            # Keeps the last good set when Token can't be reached. The listener waits for the first attempt, made when
            # there is a cluster to make it with, and not for its success: this Envoy may start before Token does.
            "async_fetch": {"fast_listener": False, "failed_refetch_duration": "1s"},
        },
    }
