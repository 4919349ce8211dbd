"""What a render target is to the rest of the mesh: mesh.yaml and the contract in, files out."""

from collections.abc import Mapping
from typing import Protocol

from mesh.contract import Contract
from mesh.model.mesh import Mesh

Files = Mapping[str, str]
"""Path below the output directory -> text."""


class Renderer(Protocol):
    """Turns the mesh into what one kind of data plane or control plane reads.

    The same mesh gives the same bytes. What a target can't hold is refused, and never left out in silence.
    """

    @property
    def target(self) -> str:
        """Its name on the command line."""

    def render(self, mesh: Mesh, contract: Contract) -> Files:
        """All files.

        Raises:
            RenderError: mesh.yaml disagrees with the access rules, or the target can't hold it.
        """
