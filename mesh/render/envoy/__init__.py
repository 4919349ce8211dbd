"""The configuration of every sidecar and of the edge, for Envoy 1.40: bootstrap, LDS, CDS, RDS and SDS as files.

`render` puts it together; `listener`, `route`, `cluster`, `tls` and `bootstrap` are Envoy's own nouns. `local_reply` is
the table of what Envoy answers by itself, `authentication` and `authorization` are the access rules in Envoy's words,
`protocol` the filters for JSON, gRPC-Web and limits.
"""

from mesh.model.agreement import RenderError
from mesh.render.envoy.bootstrap import arguments
from mesh.render.envoy.configuration import BOOTSTRAP_FILE, render
from mesh.render.envoy.placement import Address, Placement, TokenRules

__all__ = ["BOOTSTRAP_FILE", "Address", "Placement", "RenderError", "TokenRules", "arguments", "render"]
