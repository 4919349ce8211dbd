"""A mesh file of a service of one's own: what it adds to the mesh, its contract, and how its process starts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from google.protobuf.message import DecodeError
from pydantic import Field, ValidationError

from mesh.contract import Contract
from mesh.model.document import DocumentError, StrictModel, read_model, told
from mesh.model.mesh import (
    GatewayRoute,
    Mesh,
    VirtualNode,
    VirtualRouter,
    VirtualService,
)


class AddedNode(VirtualNode):
    """A virtual node, and the process beside its sidecar."""

    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """What `make run-mesh` starts in the folder of the file. `python` is the mesh's own."""


class Addition(StrictModel):
    """What the file holds. The lists are added to those of the mesh."""

    contract: str
    """The descriptor set of its proto services, beside the file."""
    virtual_nodes: Annotated[tuple[AddedNode, ...], Field(min_length=1)]
    virtual_routers: tuple[VirtualRouter, ...]
    virtual_services: tuple[VirtualService, ...]
    gateway_routes: tuple[GatewayRoute, ...] = ()

    @property
    def commands(self) -> dict[str, tuple[str, ...]]:
        """The command of each node."""
        return {node.name: node.command for node in self.virtual_nodes}

    def added_to(self, mesh: Mesh) -> Mesh:
        """The mesh with everything that the file adds.

        Raises:
            ValidationError: a name is taken, or refers to nothing.
        """
        added = {
            "virtualNodes": self.virtual_nodes,
            "virtualRouters": self.virtual_routers,
            "virtualServices": self.virtual_services,
            "gatewayRoutes": self.gateway_routes,
        }
        fields = {
            field.alias or name: getattr(mesh, name) + added.get(field.alias or "", ())
            if field.alias in added
            else getattr(mesh, name)
            for name, field in Mesh.model_fields.items()
        }
        return Mesh.model_validate(fields)

    def contract_of(self, file: Path) -> Contract:
        """Its contract, which the file names.

        Raises:
            DocumentError: it can't be read.
        """
        descriptors = file.parent / self.contract
        try:
            return Contract.read(descriptors)
        except OSError as error:
            raise DocumentError(
                f"{file}: contract: {descriptors}: {error.strerror}: write it with protoc --descriptor_set_out"
            ) from error
        except DecodeError as error:
            raise DocumentError(
                f"{file}: contract: {descriptors} is not a descriptor set: write it with protoc --descriptor_set_out"
            ) from error


def load_addition(file: Path) -> Addition:
    """Reads a mesh file of a service of one's own.

    Raises:
        DocumentError: it can't be read, is not YAML, or does not hold what it should. The message names the file and
            every key at fault.
    """
    return read_model(file, Addition)


def joined(
    mesh: Mesh, contract: Contract, file: Path | None, descriptors: Path
) -> tuple[Mesh, Contract, Mapping[str, tuple[str, ...]]]:
    """A mesh with what a mesh file of a service of one's own adds.

    Args:
        mesh: Without it.
        contract: Of that mesh.
        file: The mesh file; nothing is added when None.
        descriptors: Where the contract of both is written to.

    Returns:
        The mesh, its contract, and the commands of the added nodes.

    Raises:
        DocumentError: the file or its contract can't be read, or does not fit the mesh.
    """
    if file is None:
        return mesh, contract, {}
    addition = load_addition(file)
    try:
        return (
            addition.added_to(mesh),
            contract.joined(addition.contract_of(file), descriptors),
            addition.commands,
        )
    except ValidationError as error:
        raise DocumentError(told(file, error)) from None
