"""The files of one Envoy, put together."""

from mesh.contract import Contract
from mesh.model.agreement import RenderError, check_agreement
from mesh.model.mesh import Mesh
from mesh.render.envoy import cluster, listener, names, route
from mesh.render.envoy.bootstrap import bootstrap
from mesh.render.envoy.placement import Placement, TokenRules
from mesh.render.envoy.resource import Resource, discovery, from_file, to_yaml
from mesh.render.envoy.tls import secrets

BOOTSTRAP_FILE = "bootstrap.yaml"
CLUSTERS_FILE = "cds.yaml"
LISTENERS_FILE = "lds.yaml"


def render(mesh: Mesh, contract: Contract, node: str, placement: Placement, tokens: TokenRules) -> dict[str, str]:
    """The configuration of the sidecar of `node`, or of the gateway.

    Returns:
        File name -> text. Write them all to `placement.config`, then start `envoy -c bootstrap.yaml`.

    Raises:
        RenderError: mesh.yaml disagrees with the access rules, there is no such node, or the placement lacks what this
            node needs.
    """
    check_agreement(mesh, contract)
    gateway = mesh.virtual_gateway.name
    if node == gateway:
        _require(node, placement, "listener", "public_certificates")
        peers: tuple[str, ...] = tuple(mesh.nodes)
        routes = [route.gateway_routes(mesh, contract, placement, tokens)]
        public = listener.gateway(mesh, contract, placement, tokens, _routes(placement, routes[0]))
        listeners = [public, listener.gateway_health()]
        clusters = [cluster.gateway_health(mesh)]
    elif node in mesh.nodes:
        _require(node, placement, "ingress", "service_socket", "egress_socket")
        peers = mesh.peers(node)
        routes = [route.ingress_routes(mesh, contract, node), route.egress_routes(mesh, contract, node)]
        ingress = listener.ingress(mesh, contract, node, placement, tokens, _routes(placement, routes[0]))
        listeners = [ingress, listener.egress(mesh, contract, node, placement, _routes(placement, routes[1]))]
        clusters = [cluster.process(mesh, node, placement)]
    else:
        raise RenderError(f"{node} is not a node of the mesh: choose from {', '.join((*mesh.nodes, gateway))}")
    if missing := [name for name in peers if name not in placement.nodes]:
        raise RenderError(f"{node}: the placement has no address of {', '.join(missing)}")
    if placement.observed is not None:
        listeners.append(listener.observed(mesh, node, placement, placement.observed))
        clusters.append(cluster.metrics(names.ADMIN_CLUSTER, placement.admin_socket))
        if placement.metrics_socket is not None:
            clusters.append(cluster.metrics(names.METRICS_CLUSTER, placement.metrics_socket))
    if placement.collector is not None:
        clusters.append(cluster.collector(placement.collector))
    clusters += [cluster.node(mesh, name, placement) for name in peers]
    if not placement.reload:
        static = {"static_resources": {"listeners": listeners, "clusters": clusters}}
        return {BOOTSTRAP_FILE: to_yaml(bootstrap(mesh, node, placement, static)), **secrets(placement)}
    sources = {
        name: from_file(str(placement.config), file)
        for name, file in (("cds_config", CLUSTERS_FILE), ("lds_config", LISTENERS_FILE))
    }
    return {
        BOOTSTRAP_FILE: to_yaml(bootstrap(mesh, node, placement, {"dynamic_resources": sources})),
        LISTENERS_FILE: discovery("listener.v3.Listener", listeners),
        CLUSTERS_FILE: discovery("cluster.v3.Cluster", clusters),
        # Envoy takes exactly one route configuration from a file.
        **{f"{item['name']}.yaml": discovery("route.v3.RouteConfiguration", [item]) for item in routes},
        **secrets(placement),
    }


def _routes(placement: Placement, configuration: Resource) -> Resource:
    if not placement.reload:
        return {"route_config": configuration}
    name = configuration["name"]
    return {"rds": {"route_config_name": name, "config_source": from_file(str(placement.config), f"{name}.yaml")}}


def _require(node: str, placement: Placement, *fields: str) -> None:
    if missing := [name for name in fields if getattr(placement, name) is None]:
        raise RenderError(f"{node}: the placement lacks {', '.join(missing)}")
