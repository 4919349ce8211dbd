"""Which call goes to which cluster, for how long, and whether it may be tried again.

One route for each RPC; what has no route is UNIMPLEMENTED.
"""

from collections.abc import Iterator
from datetime import timedelta

from mesh.contract import Contract, HttpBinding, Rpc
from mesh.model.agreement import rpcs_of
from mesh.model.mesh import GrpcRetryPolicy, GrpcRoute, Mesh, RateLimit
from mesh.render.envoy import names
from mesh.render.envoy.access_log import HEALTH_PATH
from mesh.render.envoy.json_path import path_match
from mesh.render.envoy.limits import BEYOND_REQUEST_SHARE, BEYOND_SHARE, rate_limit, size_limit
from mesh.render.envoy.placement import Placement, TokenRules
from mesh.render.envoy.protocol import CORS, HEALTH_BRIDGE, TRANSCODER, cors_policy
from mesh.render.envoy.request_head import TIMEOUT_AS_SENT
from mesh.render.envoy.resource import Resource, seconds, typed
from mesh.render.request_size import SMALLEST, request_limit

# What a client claims about where it comes from stops at the edge; the edge's own word (x-envoy-external-address) goes
# on. A client's deadline is kept at the edge, which ends the call and so cancels it behind: a node that answered
# DEADLINE_EXCEEDED would be counted as failing.
_CLIENT_CLAIMS = ["x-forwarded-for", "grpc-timeout", TIMEOUT_AS_SENT, BEYOND_REQUEST_SHARE, BEYOND_SHARE]
# A process speaks for no one but itself.
_PROCESS_CLAIMS = ["x-forwarded-for", "x-forwarded-client-cert", "x-envoy-external-address", TIMEOUT_AS_SENT]

_LATER = timedelta(seconds=1)
"""How much later an ingress ends a call than those who sent it there: a node that answers DEADLINE_EXCEEDED counts as
failing."""

_NOWHERE: Resource = {"cluster": "none", "cluster_not_found_response_code": "NOT_FOUND"}
_OFF: Resource = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
_DOCUMENT_BYTES = 1024 * 1024
"""The largest document that Envoy serves itself; its default is 4 KiB."""
_NO_COOKIES: Resource = {"request_headers_to_remove": ["cookie"], "response_headers_to_remove": ["set-cookie"]}

# App Mesh's events in Envoy's words (reference: what App Mesh's own control plane sent).
_HTTP_EVENTS = {"stream-error": ("refused-stream",), "gateway-error": ("reset", "retriable-status-codes")}
_TCP_EVENTS = {"connection-error": ("connect-failure",)}
_GATEWAY_ERRORS = [502, 503, 504]


def ingress_routes(mesh: Mesh, contract: Contract, node: str) -> Resource:
    """Calls to the services of `node`, and health checks, go to the process. Nothing is retried here."""
    cluster = names.local_cluster(mesh, node)
    routes = [{"name": "health", "match": _grpc_call(HEALTH_PATH), "route": {"cluster": cluster, "timeout": "5s"}}]
    routes += [_route(rpc, policy, {"cluster": cluster}, _LATER) for rpc, policy in _policies(mesh, contract, node)]
    mapping = mesh.nodes[node].listener.port_mapping
    return _configuration(
        names.ingress_routes(mapping.protocol, mapping.port),
        {"name": node, "routes": routes, "request_headers_to_remove": [TIMEOUT_AS_SENT]},
    )


def egress_routes(mesh: Mesh, contract: Contract, node: str) -> Resource:
    """Calls of the process of `node` go to its backends and to no one else. The only place where calls are retried."""
    routes: dict[str, Resource] = {}
    for backend in mesh.backend_nodes(node):
        for rpc, policy in _policies(mesh, contract, backend):
            routes[rpc.path] = _route(rpc, policy, {**_target(mesh, policy), **_retries(rpc, policy)})
    mapping = mesh.nodes[node].listener.port_mapping
    host = {"name": "backends", "routes": list(routes.values()), "request_headers_to_remove": _PROCESS_CLAIMS}
    return _configuration(names.egress_routes(mapping.protocol, mapping.port), host)


def gateway_routes(mesh: Mesh, contract: Contract, placement: Placement, tokens: TokenRules) -> Resource:
    """Calls of clients go to the services that a gateway route opens."""
    gateway = mesh.virtual_gateway
    limits = {path: limit for limit in gateway.rate_limits for path in limit.methods}
    opened = {route.match.service_name for route in mesh.gateway_routes}
    routes = [_health_route(mesh)]
    json_routes: list[Resource] = []
    for node in mesh.nodes:
        for rpc, policy in _policies(mesh, contract, node):
            if rpc.service in opened:
                size = size_limit(request_limit(contract, rpc))
                routes.append(
                    {
                        **_route(rpc, policy, _target(mesh, policy)),
                        "typed_per_filter_config": {**size, **_rate_limits(rpc, limits.get(rpc.path), placement)},
                        "response_headers_to_add": [_header("cache-control", _caching(rpc, tokens))],
                        # Browsers send a cookie to every path of its host; who has no use for a refresh token doesn't
                        # get to see it.
                        **({} if rpc.path in gateway.cookie_methods else _NO_COOKIES),
                    }
                )
                json_routes += [_json_route(rpc, binding, size) for binding in rpc.http]
    host = {
        "name": gateway.name,
        "routes": [*routes, *json_routes, *_documents(placement), _preflight_route()],
        "request_headers_to_remove": _CLIENT_CLAIMS,
        "response_headers_to_add": [
            _header("x-content-type-options", "nosniff"),
            _header("strict-transport-security", "max-age=31536000"),
        ],
        "typed_per_filter_config": {CORS: cors_policy(mesh, placement)},
    }
    return _configuration(names.ingress_routes(gateway.port_mapping.protocol, gateway.port_mapping.port), host)


def _policies(mesh: Mesh, contract: Contract, node: str) -> Iterator[tuple[Rpc, GrpcRoute]]:
    """Each RPC of a node with the route of mesh.yaml that is about it.

    A route for a method goes before one for its service.
    """
    routes = [route.grpc_route for route in mesh.routes_to(node)]
    for rpc in rpcs_of(mesh, contract, node):
        about = [
            route
            for route in routes
            if route.match.service_name == rpc.service and route.match.method_name in (None, rpc.name)
        ]
        if about:
            yield rpc, max(about, key=lambda route: route.match.method_name is not None)


def _route(rpc: Rpc, policy: GrpcRoute, action: Resource, later: timedelta = timedelta()) -> Resource:
    service = rpc.service.rsplit(".", 1)[-1]
    return {
        "name": f"{service}.{rpc.name}",
        "match": _grpc_call(rpc.path),
        # The name of its spans.
        "decorator": {"operation": f"{service}/{rpc.name}", "propagate": False},
        "route": {**action, **_timeouts(rpc, policy, later)},
    }


def _grpc_call(path: str) -> Resource:
    # What is not a POST can't be read by grpc core, and would count as a failure of the node that it was sent to.
    return {"path": path, "headers": [{"name": ":method", "string_match": {"exact": "POST"}}]}


def _timeouts(rpc: Rpc, policy: GrpcRoute, later: timedelta) -> Resource:
    if rpc.server_streaming:
        # A stream lives as long as its caller's deadline and token allow.
        return {
            "timeout": "0s",
            "idle_timeout": seconds(policy.timeout.idle),
            "max_stream_duration": {"grpc_timeout_header_max": "0s"},
        }
    limit = seconds(policy.timeout.per_request + later)
    # `grpc_timeout_header_max` is for callers with a deadline, and makes Envoy ignore `timeout`.
    return {"max_stream_duration": {"max_stream_duration": limit, "grpc_timeout_header_max": limit}}


def _target(mesh: Mesh, policy: GrpcRoute) -> Resource:
    targets = [
        (names.node_cluster(mesh, target.virtual_node), target.weight) for target in policy.action.weighted_targets
    ]
    if len(targets) == 1:
        return {"cluster": targets[0][0]}
    return {"weighted_clusters": {"clusters": [{"name": cluster, "weight": weight} for cluster, weight in targets]}}


def _retries(rpc: Rpc, policy: GrpcRoute) -> Resource:
    retry = policy.retry_policy
    if retry is None or not rpc.idempotent or retry.max_retries == 0:
        return {}
    return {
        "retry_policy": {
            "retry_on": ",".join(_events(retry)),
            **({"retriable_status_codes": _GATEWAY_ERRORS} if "gateway-error" in retry.http_retry_events else {}),
            "num_retries": retry.max_retries,
            # A stream may outlive any bound on one attempt.
            **({} if rpc.server_streaming else {"per_try_timeout": seconds(retry.per_retry_timeout)}),
            "retry_back_off": {"base_interval": "0.05s", "max_interval": "0.5s"},
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": typed("retry.host.previous_hosts.v3.PreviousHostsPredicate"),
                }
            ],
            "host_selection_retry_max_attempts": 5,
        }
    }


def _events(retry: GrpcRetryPolicy) -> list[str]:
    http = [event for name in retry.http_retry_events for event in _HTTP_EVENTS[name]]
    tcp = [event for name in retry.tcp_retry_events for event in _TCP_EVENTS[name]]
    return list(dict.fromkeys([*retry.grpc_retry_events, *http, *tcp]))


def _rate_limits(rpc: Rpc, limit: RateLimit | None, placement: Placement) -> Resource:
    return {} if limit is None else rate_limit(limit, rpc.name, placement.rate_limit_factor)


def _caching(rpc: Rpc, tokens: TokenRules) -> str:
    if any(binding.template.startswith("/.well-known/") for binding in rpc.http):
        return f"public, max-age={tokens.jwks_cache}"
    # Answers carry tokens and personal data (RFC 6749 section 5.1).
    return "no-store"


def _json_route(rpc: Rpc, binding: HttpBinding, size: Resource) -> Resource:
    """For the filters before the transcoder, which makes a gRPC call of this, whose route is taken then."""
    service = rpc.service.rsplit(".", 1)[-1]
    method = {"name": ":method", "string_match": {"exact": binding.method}}
    return {
        "name": f"{service}.{rpc.name}.json",
        "match": {**path_match(binding.template), "headers": [method]},
        "route": _NOWHERE,
        "typed_per_filter_config": size,
    }


def _documents(placement: Placement) -> list[Resource]:
    if placement.openapi is None:
        return []
    return [
        {
            "name": "openapi",
            "match": {"path": "/openapi.json", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
            "direct_response": {"status": 200, "body": {"filename": str(placement.openapi)}},
            "response_headers_to_add": [_header("content-type", "application/json")],
            # It is not a method, and the transcoder would say so.
            "typed_per_filter_config": {**size_limit(SMALLEST), TRANSCODER: _OFF},
        }
    ]


def _preflight_route() -> Resource:
    # For CORS, which answers preflights only on routes that lead to a cluster; whatever else gets here is answered as
    # unknown.
    return {
        "name": "preflight",
        "match": {"prefix": "/"},
        "route": _NOWHERE,
        "typed_per_filter_config": size_limit(SMALLEST),
    }


def _health_route(mesh: Mesh) -> Resource:
    return {
        "name": "health",
        "match": _grpc_call(HEALTH_PATH),
        "route": {"cluster": names.health_cluster(mesh), "timeout": "5s"},
        "typed_per_filter_config": {
            HEALTH_BRIDGE: typed("filters.http.grpc_http1_reverse_bridge.v3.FilterConfigPerRoute", disabled=False)
        },
    }


def _header(key: str, value: str) -> Resource:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _configuration(name: str, host: Resource) -> Resource:
    # The cluster of preflights does not exist, on purpose.
    host = {"domains": ["*"], **host}
    return {
        "name": name,
        "validate_clusters": False,
        "max_direct_response_body_size_bytes": _DOCUMENT_BYTES,
        "virtual_hosts": [host],
    }
