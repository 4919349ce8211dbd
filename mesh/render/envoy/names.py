"""The names that App Mesh gave to listeners, routes and clusters; dashboards and alarms made for it go on working."""

from mesh.model.mesh import Mesh

INGRESS_PORT = 15000
EGRESS_PORT = 15001
"""App Mesh's ports. Part of the listener's name wherever the listener really is: a pipe, or a free port of a laptop."""

HEALTH_LISTENER = "lds_ingress_health"
"""The gateway's internal listener that says SERVING."""


OBSERVED_LISTENER = "lds_ingress_observed"
"""The listener of probes and metrics."""
METRICS_CLUSTER = "cds_metrics_process"
ADMIN_CLUSTER = "cds_metrics_envoy"
"""Where metrics come from: the process, and this Envoy's own administration."""


COLLECTOR_CLUSTER = "cds_traces_collector"
"""Where spans go."""


def ingress_listener(port: int = INGRESS_PORT) -> str:
    """The listener for calls to this node, or to the gateway at its public port."""
    return f"lds_ingress_0.0.0.0_{port}"


def egress_listener() -> str:
    """The listener for calls of this node's process."""
    return f"lds_egress_0.0.0.0_{EGRESS_PORT}"


def ingress_routes(protocol: str, port: int) -> str:
    """The route configuration of an ingress listener."""
    return f"rds_ingress_{protocol}_{port}"


def egress_routes(protocol: str, port: int) -> str:
    """The route configuration of an egress listener."""
    return f"rds_egress_{protocol}_{port}"


def local_cluster(mesh: Mesh, node: str) -> str:
    """The process behind a sidecar."""
    mapping = mesh.nodes[node].listener.port_mapping
    return f"cds_ingress_{mesh.name}_{node}_{mapping.protocol}_{mapping.port}"


def node_cluster(mesh: Mesh, node: str) -> str:
    """Another node, as its callers see it."""
    mapping = mesh.nodes[node].listener.port_mapping
    return f"cds_egress_{mesh.name}_{node}_{mapping.protocol}_{mapping.port}"


def health_cluster(mesh: Mesh) -> str:
    """The gateway's way to its own health listener."""
    return f"cds_ingress_{mesh.name}_{mesh.virtual_gateway.name}_self_health"
