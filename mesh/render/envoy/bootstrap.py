"""What an Envoy starts with: who it is, its admin socket, and where the rest of its configuration is."""

from mesh.model.mesh import Mesh
from mesh.render.envoy.placement import Placement
from mesh.render.envoy.resource import Resource, extension

_HEAP = "envoy.resource_monitors.fixed_heap"
_INTERNAL_LISTENERS = extension("envoy.bootstrap.internal_listener", "bootstrap.internal_listener.v3.InternalListener")
_PEERS = 4096
"""Connections to a sidecar: one for each worker of each caller's Envoy, and its own process."""


_LOGS = ("--log-level", "warning", "--component-log-level", "main:error,jwt:error,misc:error")
"""That it was asked to end is not a warning; nor is it that Token's keys can't be had yet while Token starts, and when
they can't be had for long the services say so. What Envoy thinks of the configuration is known: a test asks it.
"""


def arguments(file: str, *, workers: int) -> tuple[str, ...]:
    """What Envoy is started with.

    No hot restart: it would leave shared memory behind when it is killed.

    Args:
        file: The bootstrap file.
        workers: Threads that handle connections.
    """
    return ("-c", file, "--concurrency", str(workers), "--disable-hot-restart", *_LOGS)


def bootstrap(mesh: Mesh, node: str, placement: Placement, resources: Resource) -> Resource:
    """The bootstrap of a sidecar or of the gateway. Ids and stats tags are App Mesh's.

    Args:
        mesh: The mesh.
        node: The node or gateway.
        placement: Where it is.
        resources: `static_resources` or `dynamic_resources`.
    """
    is_gateway = node == mesh.virtual_gateway.name
    resource = f"mesh/{mesh.name}/{'virtualGateway' if is_gateway else 'virtualNode'}/{node}"
    return {
        "node": {"id": resource, "cluster": resource},
        "admin": {"address": {"pipe": {"path": str(placement.admin_socket), "mode": 0o600}}},
        **resources,
        "stats_config": {
            "stats_tags": [
                {"tag_name": "appmesh.mesh", "fixed_value": mesh.name},
                {"tag_name": f"appmesh.virtual_{'gateway' if is_gateway else 'node'}", "fixed_value": node},
            ]
        },
        "overload_manager": _overload(
            mesh.virtual_gateway.max_heap_bytes, mesh.virtual_gateway.max_connections if is_gateway else _PEERS
        ),
        **({"bootstrap_extensions": [_INTERNAL_LISTENERS]} if is_gateway else {}),
    }


def _overload(heap: int, connections: int) -> Resource:
    limit = extension(
        "envoy.resource_monitors.global_downstream_max_connections",
        "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        max_active_downstream_connections=connections,
    )
    memory = extension(_HEAP, "resource_monitors.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=heap)
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [limit, memory],
        # The stream that holds most goes first: a stream that sends a large body slowly.
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 20},
        "actions": [
            {"name": "envoy.overload_actions.shrink_heap", "triggers": [{"name": _HEAP, "threshold": {"value": 0.8}}]},
            {
                "name": "envoy.overload_actions.reset_high_memory_stream",
                "triggers": [{"name": _HEAP, "scaled": {"scaling_threshold": 0.85, "saturation_threshold": 0.95}}],
            },
            {
                "name": "envoy.overload_actions.stop_accepting_requests",
                "triggers": [{"name": _HEAP, "threshold": {"value": 0.95}}],
            },
        ],
    }
