"""Where calls go: the process behind this sidecar, other nodes, and the gateway's own health listener."""

import ipaddress
from pathlib import Path

from mesh.model.mesh import Mesh, NodeListener
from mesh.render.envoy import names
from mesh.render.envoy.placement import Address, Placement
from mesh.render.envoy.resource import Resource, extension, http2_upstream, seconds
from mesh.render.envoy.tls import mesh_client

_CONNECTIONS = 128
_BUFFER = 32_768
_WINDOW = 65_536
"""What is kept of an answer that its caller does not read (Envoy's guide for edges)."""


def process(mesh: Mesh, node: str, placement: Placement) -> Resource:
    """The process behind the sidecar of `node`, on its unix socket.

    Health checks say how it is; they don't stop calls (one endpoint, so Envoy's panic threshold lets them through): a
    process that is up but not ready knows better than the sidecar why, and a dead one refuses the connection at once.
    """
    name = names.local_cluster(mesh, node)
    listener = mesh.nodes[node].listener
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _endpoints(name, {"pipe": {"path": str(placement.service_socket)}}),
        "per_connection_buffer_limit_bytes": _BUFFER,
        **_http2(listener),
        "health_checks": [_health_check("1s", "2s", healthy=1, unhealthy=2)],
        "circuit_breakers": _circuit_breakers(listener),
    }


def node(mesh: Mesh, name: str, placement: Placement) -> Resource:
    """Another node, through its sidecar: its identity must be exactly that node's."""
    cluster = names.node_cluster(mesh, name)
    listener, address = mesh.nodes[name].listener, placement.nodes[name]
    check, outliers = listener.health_check, listener.outlier_detection
    return {
        "name": cluster,
        **_discovery(address),
        "connect_timeout": "1s",
        "load_assignment": _endpoints(
            cluster, {"socket_address": {"address": address.host, "port_value": address.port}}
        ),
        "per_connection_buffer_limit_bytes": _BUFFER,
        **_http2(listener),
        "transport_socket": mesh_client(mesh, placement, name),
        "health_checks": [
            _health_check(
                seconds(check.interval),
                seconds(check.timeout),
                healthy=check.healthy_threshold,
                unhealthy=check.unhealthy_threshold,
            )
        ],
        "outlier_detection": {
            # Nothing that a caller can provoke. Of what the node answers, gateway failures only: UNIMPLEMENTED is a 5xx
            # too. DEADLINE_EXCEEDED is one of them, and Envoy can't leave it out: callers' deadlines end at the edge
            # instead (route.py). What this Envoy sees by itself is counted apart: connections that fail and streams
            # that are reset.
            "split_external_local_origin_errors": True,
            "consecutive_gateway_failure": outliers.max_server_errors,
            "enforcing_consecutive_gateway_failure": 100,
            "consecutive_local_origin_failure": outliers.max_server_errors,
            "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_consecutive_5xx": 0,
            "enforcing_success_rate": 0,
            "enforcing_local_origin_success_rate": 0,
            "interval": seconds(outliers.interval),
            "base_ejection_time": seconds(outliers.base_ejection_duration),
            "max_ejection_percent": outliers.max_ejection_percent,
        },
        "circuit_breakers": _circuit_breakers(listener),
        # An endpoint that DNS no longer names is gone; App Mesh learnt that late.
        "ignore_health_on_host_removal": True,
    }


def gateway_health(mesh: Mesh) -> Resource:
    """The gateway's own health listener, inside the same Envoy."""
    name = names.health_cluster(mesh)
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _endpoints(
            name, {"envoy_internal_address": {"server_listener_name": names.HEALTH_LISTENER}}
        ),
        "transport_socket": extension(
            "envoy.transport_sockets.internal_upstream",
            "transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
            transport_socket=extension(
                "envoy.transport_sockets.raw_buffer", "transport_sockets.raw_buffer.v3.RawBuffer"
            ),
        ),
    }


def metrics(name: str, socket: Path) -> Resource:
    """What a scraper is handed to, on a unix socket: metrics of the process, or of this Envoy itself."""
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _endpoints(name, {"pipe": {"path": str(socket)}}),
        "circuit_breakers": {"thresholds": [{"max_connections": 4, "max_pending_requests": 4, "max_requests": 4}]},
    }


def collector(address: Address) -> Resource:
    """What takes spans. Few at a time: when it is slow, spans are lost and calls go on."""
    return {
        "name": names.COLLECTOR_CLUSTER,
        **_discovery(address),
        "connect_timeout": "1s",
        "load_assignment": _endpoints(
            names.COLLECTOR_CLUSTER, {"socket_address": {"address": address.host, "port_value": address.port}}
        ),
        "circuit_breakers": {"thresholds": [{"max_connections": 2, "max_pending_requests": 8, "max_requests": 8}]},
    }


def _discovery(address: Address) -> Resource:
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        return {"type": "STRICT_DNS", "dns_refresh_rate": "5s", "respect_dns_ttl": True}
    return {"type": "STATIC"}


def _endpoints(cluster: str, address: Resource) -> Resource:
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}


def _http2(listener: NodeListener) -> Resource:
    return http2_upstream(
        connection_keepalive={"interval": "30s", "timeout": "5s"},
        initial_stream_window_size=_WINDOW,
        # Room for every stream at once: a few answers that no one reads must not stop the others on this connection.
        initial_connection_window_size=_WINDOW * listener.connection_pool.max_requests,
    )


def _health_check(interval: str, timeout: str, *, healthy: int, unhealthy: int) -> Resource:
    return {
        "grpc_health_check": {},
        "timeout": timeout,
        "interval": interval,
        # Envoy's defaults look once a minute at an endpoint that had no call yet, sick or not, and as rarely at a dead
        # one.
        "no_traffic_interval": "0.5s",
        "unhealthy_interval": "0.5s",
        "no_traffic_healthy_interval": interval,
        "healthy_threshold": healthy,
        "unhealthy_threshold": unhealthy,
    }


def _circuit_breakers(listener: NodeListener) -> Resource:
    requests = listener.connection_pool.max_requests
    return {
        "thresholds": [
            {
                "max_connections": _CONNECTIONS,
                "max_pending_requests": requests,
                "max_requests": requests,
                "retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": 3},
            }
        ]
    }
