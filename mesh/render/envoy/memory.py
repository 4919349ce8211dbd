"""What strangers can make the edge hold, multiplied out.

It must fit its heap (Envoy, "Configuring Envoy as an edge proxy").
"""

from dataclasses import dataclass

from mesh.contract import Contract
from mesh.model.mesh import Mesh
from mesh.render.envoy.listener import CONNECTION_BUFFER, STREAM_WINDOW
from mesh.render.request_size import request_limit

HEADERS = 16 * 1024
"""Bytes of the headers of a request, at the most."""
CONNECTION = 16 * 1024
"""Bytes of a connection with TLS and HTTP/2 and nothing on it: an estimate."""
USABLE = 0.8
"""Of the heap. Beyond it Envoy gives memory back, and soon resets what holds most."""


@dataclass(frozen=True, slots=True)
class Share:
    """One thing that is held."""

    what: str
    count: int
    each: int
    """Bytes."""

    @property
    def total(self) -> int:
        """Bytes."""
        return self.count * self.each


def held_by_edge(mesh: Mesh, contract: Contract) -> tuple[Share, ...]:
    """Everything that can be held at once."""
    gateway = mesh.virtual_gateway
    opened = {route.match.service_name for route in mesh.gateway_routes}
    largest = max(
        (min(request_limit(contract, rpc), gateway.max_request_bytes) for rpc in contract.rpcs.values()
         if rpc.service in opened),
        default=gateway.max_request_bytes,
    )  # fmt: skip
    return (
        Share("connections", gateway.max_connections, CONNECTION + CONNECTION_BUFFER),
        Share("requests under way: headers", gateway.max_requests, HEADERS),
        Share("requests under way: bodies", gateway.max_requests, max(largest, STREAM_WINDOW)),
    )


def memory_fault(mesh: Mesh, contract: Contract) -> str | None:
    """What is wrong with the bounds of the edge, and None when they fit."""
    shares = held_by_edge(mesh, contract)
    most, usable = sum(share.total for share in shares), int(mesh.virtual_gateway.max_heap_bytes * USABLE)
    if most <= usable:
        return None
    told = ", ".join(f"{share.count} {share.what} of {share.each // 1024} KiB" for share in shares)
    return (
        f"virtualGateway: {told} are {most // 2**20} MiB, and {USABLE:.0%} of maxHeapBytes are {usable // 2**20} MiB: "
        "lower maxConnections, maxRequests or maxRequestBytes, or raise maxHeapBytes"
    )
