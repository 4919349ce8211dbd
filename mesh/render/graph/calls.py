"""Who may call which methods of whom."""

from collections.abc import Mapping
from dataclasses import dataclass

from mesh.contract import Contract, Rpc
from mesh.model.agreement import check_agreement, rpcs_of
from mesh.model.mesh import Mesh


@dataclass(frozen=True, slots=True)
class Calls:
    """What a picture of the mesh shows."""

    gateway: str
    nodes: tuple[str, ...]
    services: Mapping[str, Mapping[str, tuple[Rpc, ...]]]
    """Of each node: the methods of its proto services, by their short names."""
    opened: Mapping[str, tuple[Rpc, ...]]
    """Of each node: methods that the gateway opens to clients."""
    between: Mapping[tuple[str, str], tuple[str, ...]]
    """Caller and node: names of the methods that the access rules let the caller call."""

    @classmethod
    def of(cls, mesh: Mesh, contract: Contract) -> "Calls":
        """The calls of a mesh.

        Raises:
            RenderError: mesh.yaml disagrees with the access rules.
        """
        check_agreement(mesh, contract)
        services: dict[str, dict[str, tuple[Rpc, ...]]] = {}
        opened: dict[str, tuple[Rpc, ...]] = {}
        between: dict[tuple[str, str], tuple[str, ...]] = {}
        for node in mesh.nodes:
            rpcs = tuple(rpcs_of(mesh, contract, node))
            services[node] = {}
            for rpc in rpcs:
                name = rpc.service.rpartition(".")[2]
                services[node][name] = (*services[node].get(name, ()), rpc)
            opened[node] = tuple(rpc for rpc in rpcs if rpc.kind != "internal")
            for caller in mesh.nodes:
                if names := tuple(rpc.name for rpc in rpcs if caller != node and _admits(rpc, caller)):
                    between[caller, node] = names
        return cls(mesh.virtual_gateway.name, tuple(mesh.nodes), services, opened, between)


def _admits(rpc: Rpc, caller: str) -> bool:
    named = set(rpc.access.internal.callers)
    return rpc.kind == "internal" and bool(named & {caller, "*"})
