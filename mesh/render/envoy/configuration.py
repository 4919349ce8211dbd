"""The files of one Envoy, put together."""

from mesh.contract import Contract
from mesh.model import Mesh
from mesh.render.agreement import RenderError, check_agreement
from mesh.render.envoy import cluster, listener, route
from mesh.render.envoy.bootstrap import CLUSTERS_FILE, LISTENERS_FILE, bootstrap
from mesh.render.envoy.placement import Placement, TokenRules
from mesh.render.envoy.resource import discovery, to_yaml
from mesh.render.envoy.tls import secrets


def render(mesh: Mesh, contract: Contract, node: str, placement: Placement, tokens: TokenRules) -> dict[str, str]:
    """The configuration of the sidecar of `node`, or of the gateway.

    Returns:
        File name -> text. Write them all to `placement.config`, then start `envoy -c bootstrap.yaml`. A running Envoy reads a file again when another
        is moved over it.

    Raises:
        RenderError: mesh.yaml disagrees with the access rules, there is no such node, or the placement lacks what this node needs.
    """
    check_agreement(mesh, contract)
    gateway = mesh.virtual_gateway.name
    if node == gateway:
        _require(node, placement, "listener", "public_certificates")
        listeners = [listener.gateway(mesh, contract, placement, tokens), listener.gateway_health(placement)]
        routes = [route.gateway_routes(mesh, contract, placement, tokens)]
        clusters = [cluster.gateway_health(mesh)]
        peers: tuple[str, ...] = tuple(mesh.nodes)
    elif node in mesh.nodes:
        _require(node, placement, "ingress", "service_socket", "egress_socket")
        listeners = [listener.ingress(mesh, contract, node, placement, tokens), listener.egress(mesh, node, placement)]
        routes = [route.ingress_routes(mesh, contract, node), route.egress_routes(mesh, contract, node)]
        clusters = [cluster.process(mesh, node, placement)]
        peers = tuple(dict.fromkeys((*mesh.backend_nodes(node), mesh.jwks_node())))
    else:
        raise RenderError(f"there is no node {node}; known: {', '.join((*mesh.nodes, gateway))}")
    if missing := [name for name in peers if name not in placement.nodes]:
        raise RenderError(f"{node}: the placement has no address of {', '.join(missing)}")
    clusters += [cluster.node(mesh, name, placement) for name in peers]
    return {
        "bootstrap.yaml": to_yaml(bootstrap(mesh, node, placement)),
        LISTENERS_FILE: discovery("listener.v3.Listener", listeners),
        CLUSTERS_FILE: discovery("cluster.v3.Cluster", clusters),
        # Envoy takes exactly one route configuration from a file.
        **{f"{item['name']}.yaml": discovery("route.v3.RouteConfiguration", [item]) for item in routes},
        **secrets(placement),
    }


def _require(node: str, placement: Placement, *fields: str) -> None:
    if missing := [name for name in fields if getattr(placement, name) is None]:
        raise RenderError(f"{node}: the placement lacks {', '.join(missing)}")
