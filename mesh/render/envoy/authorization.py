"""rbac: which identities a sidecar admits to which RPC, derived from the access rules."""

from collections.abc import Iterable

from mesh.contract import Contract
from mesh.model.agreement import callers, rpcs_of
from mesh.model.mesh import Mesh
from mesh.render.envoy.access_log import HEALTH_PATH
from mesh.render.envoy.authentication import CLAIMS
from mesh.render.envoy.authentication import NAME as JWT_AUTHN
from mesh.render.envoy.placement import TokenRules
from mesh.render.envoy.resource import Resource, extension

NAME = "envoy.filters.http.rbac"


def ingress_rbac(mesh: Mesh, contract: Contract, node: str) -> Resource:
    """Admits to each RPC of `node` exactly the identities that the access rules name.

    Every identity of the mesh is admitted to the health check.
    """
    admitted: dict[tuple[str, ...], list[str]] = {(*mesh.nodes, mesh.virtual_gateway.name): [HEALTH_PATH]}
    for rpc in rpcs_of(mesh, contract, node):
        everybody = callers(mesh, contract, node, rpc)
        admitted.setdefault(
            tuple(name for name in (*mesh.nodes, mesh.virtual_gateway.name) if name in everybody), []
        ).append(rpc.path)
    policies = {
        "+".join(names): {
            "permissions": _paths(paths),
            "principals": [
                {"authenticated": {"principal_name": {"exact": mesh.spiffe_ids.of(name)}}} for name in names
            ],
        }
        for names, paths in admitted.items()
        if names
    }
    return _rbac("ALLOW", policies)


def gateway_rbac(contract: Contract, tokens: TokenRules) -> Resource:
    """Refuses at the gateway what other filters refuse too; this holds if one of them is ever wrong.

    Internal RPCs, which have no route there; and RPCs that demand a token, without the claims of one that was verified.
    """
    internal = [rpc.path for rpc in contract.rpcs.values() if rpc.access.WhichOneof("kind") == "internal"]
    authenticated = [rpc.path for rpc in contract.rpcs.values() if rpc.access.WhichOneof("kind") == "authenticated"]
    issuer = {
        "filter": JWT_AUTHN,
        "path": [{"key": CLAIMS}, {"key": "iss"}],
        "value": {"string_match": {"exact": tokens.issuer}},
    }
    policies = {
        "internal": {"permissions": _paths(internal), "principals": [{"any": True}]},
        "without-token": {
            "permissions": _paths(authenticated),
            "principals": [{"not_id": {"sourced_metadata": {"metadata_matcher": issuer}}}],
        },
    }
    return _rbac("DENY", policies)


def _rbac(action: str, policies: Resource) -> Resource:
    return extension(NAME, "filters.http.rbac.v3.RBAC", rules={"action": action, "policies": policies})


def _paths(paths: Iterable[str]) -> list[Resource]:
    return [{"url_path": {"path": {"exact": path}}} for path in paths]
