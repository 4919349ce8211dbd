"""The files of all Envoys of a mesh, for hosts or pods where each Envoy has its own file system."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mesh.contract import Contract
from mesh.model.mesh import Mesh
from mesh.render.envoy.configuration import render
from mesh.render.envoy.placement import Address, Placement, TokenRules
from mesh.render.renderer import Files

CONFIG = Path("/etc/envoy")
CERTIFICATES = Path("/run/authmesh/certificates")
PUBLIC_CERTIFICATES = Path("/run/authmesh/public")
SOCKETS = Path("/run/authmesh")


@dataclass(frozen=True, slots=True)
class EnvoyRenderer:
    """`<node>/bootstrap.yaml` and what it reads, for every node and the gateway."""

    tokens: TokenRules
    place: "Callable[[Mesh, str], Placement] | None" = None
    """Where the Envoy of a node is; by default as `placed` says."""
    collector: Address | None = None
    """Where spans of traced calls go, unless `place` says."""
    target: str = "envoy"

    def render(self, mesh: Mesh, contract: Contract) -> Files:
        """All files.

        Raises:
            RenderError: mesh.yaml disagrees with the access rules.
        """
        place = self.place or (lambda mesh, node: replace(placed(mesh, node), collector=self.collector))
        return {
            f"{node}/{name}": text
            for node in (*mesh.nodes, mesh.virtual_gateway.name)
            for name, text in render(mesh, contract, node, place(mesh, node), self.tokens).items()
        }


def placed(mesh: Mesh, node: str) -> Placement:
    """An Envoy with a file system of its own.

    Its files in /etc/envoy, certificates and sockets below /run/authmesh, and each node behind the DNS name
    `<node>.<mesh>` (one record for each replica).
    """
    is_gateway = node == mesh.virtual_gateway.name
    return Placement(
        config=CONFIG,
        certificates=CERTIFICATES,
        admin_socket=SOCKETS / "envoy.admin",
        access_log=Path("/dev/stdout"),
        nodes={
            name: Address(f"{name}.{mesh.name}", found.listener.port_mapping.port) for name, found in mesh.nodes.items()
        },
        reload=True,
        ingress=None if is_gateway else Address("0.0.0.0", mesh.nodes[node].listener.port_mapping.port),
        service_socket=None if is_gateway else SOCKETS / "service",
        egress_socket=None if is_gateway else SOCKETS / "egress",
        listener=Address("0.0.0.0", mesh.virtual_gateway.port_mapping.port) if is_gateway else None,
        public_certificates=PUBLIC_CERTIFICATES if is_gateway else None,
    )
