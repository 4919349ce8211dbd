"""Gateway, GRPCRoute and BackendTLSPolicy of `gateway.networking.k8s.io/v1` (standard channel)."""

from collections.abc import Mapping, Sequence
from typing import Any

from mesh.model.mesh import GatewayRoute, Mesh, Route
from mesh.render.kubernetes.objects import Object, kind
from mesh.render.kubernetes.pod import PUBLIC_SECRET

API = "gateway.networking.k8s.io/v1"
LISTENER = "https"
TRUST = "mesh-ca"
"""The ConfigMap with the mesh's certificate authority (`ca.crt`)."""


def gateway(mesh: Mesh, class_name: str) -> Object:
    """The edge."""
    edge = mesh.virtual_gateway
    listener = {
        "name": LISTENER,
        "protocol": "HTTPS",
        "port": edge.port_mapping.port,
        "tls": {"mode": "Terminate", "certificateRefs": [{"kind": "Secret", "name": PUBLIC_SECRET}]},
        "allowedRoutes": {"namespaces": {"from": "Same"}, "kinds": [{"kind": "GRPCRoute"}]},
    }
    return kind(API, "Gateway", edge.name, spec={"gatewayClassName": class_name, "listeners": [listener]})


def opened(mesh: Mesh, route: GatewayRoute) -> Object:
    """What clients may call: one proto service."""
    behind = [
        one
        for one in mesh.routes_of(route.virtual_service)
        if one.grpc_route.match.service_name == route.match.service_name
    ]
    parent = {"name": mesh.virtual_gateway.name, "sectionName": LISTENER}
    return grpc_route(mesh, route.name, parent, behind)


def grpc_route(mesh: Mesh, name: str, parent: Mapping[str, Any], routes: Sequence[Route]) -> Object:
    """Calls of a parent to nodes, by proto service and method. The more precise match goes first."""
    ordered = sorted(routes, key=lambda route: route.grpc_route.match.method_name is None)
    return kind(
        API, "GRPCRoute", name, spec={"parentRefs": [dict(parent)], "rules": [_rule(mesh, route) for route in ordered]}
    )


def _rule(mesh: Mesh, route: Route) -> Object:
    match = route.grpc_route.match
    method = {"type": "Exact", "service": match.service_name}
    if match.method_name:
        method["method"] = match.method_name
    targets = [
        {
            "name": target.virtual_node,
            "port": mesh.nodes[target.virtual_node].listener.port_mapping.port,
            "weight": target.weight,
        }
        for target in route.grpc_route.action.weighted_targets
    ]
    return {"matches": [{"method": method}], "backendRefs": targets}


def backend_tls(mesh: Mesh, node: str, namespace: str) -> Object:
    """A node must prove that it is that node."""
    return kind(
        API,
        "BackendTLSPolicy",
        node,
        spec={
            "targetRefs": [{"group": "", "kind": "Service", "name": node}],
            "validation": {
                "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": TRUST}],
                "hostname": f"{node}.{namespace}.svc.cluster.local",
                "subjectAltNames": [{"type": "URI", "uri": mesh.spiffe_ids.of(node)}],
            },
        },
    )
