"""From the mesh model and the contract to what a platform understands.

`agreement` holds mesh.yaml against the access rules; each renderer begins with it. `envoy` writes the configuration of
every sidecar and of the edge.
"""

from mesh.model.agreement import RenderError, check_agreement

__all__ = ["RenderError", "check_agreement"]
