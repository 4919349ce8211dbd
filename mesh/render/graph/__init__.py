"""The mesh as a picture: nodes, what the edge opens of them, and who may call what by the access rules.

`calls` says what there is to draw, `mermaid` and `svg` draw it.
"""

from mesh.render.graph.calls import Calls
from mesh.render.graph.mermaid import mermaid
from mesh.render.graph.svg import svg

__all__ = ["Calls", "mermaid", "svg"]
