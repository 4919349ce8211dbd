"""The mesh in the words of Gateway API, with the policies of the implementation that reads it (its flavor).

`routes` is what all flavors share; `flavor` has each one's own, and what it has no words for.
"""

from mesh.render.gateway_api.flavor import FLAVORS
from mesh.render.gateway_api.renderer import GatewayApiRenderer

__all__ = ["FLAVORS", "GatewayApiRenderer"]
