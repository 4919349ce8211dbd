"""What a render target is to the rest of the mesh: mesh.yaml and the contract in, files out."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from mesh.contract import Contract
from mesh.model.agreement import RenderError
from mesh.model.mesh import Mesh

Files = Mapping[str, str]
"""Path below the output directory -> text."""


def without(holder: str, lost: Sequence[str], *, accepted: bool) -> str:
    """What each file begins with where a target can't hold all of a mesh.

    Args:
        holder: The target, for people.
        lost: What it has no words for.
        accepted: Whether the mesh may be rendered all the same.

    Raises:
        RenderError: it may not; with all that would be lost.
    """
    if not accepted:
        lines = "\n".join(f"  {line}" for line in lost)
        raise RenderError(f"{holder} can't hold all of this mesh: --accept-loss renders it without\n{lines}")
    return "".join(f"# Without {line}.\n" for line in lost)


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
