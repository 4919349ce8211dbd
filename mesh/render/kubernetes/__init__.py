"""The mesh on Kubernetes: a Kustomize base, which an overlay completes with what differs between clusters.

`pod` is a service and its Envoy in one pod, `network` who may open a connection to whom, `objects` the rest of what
each node has.
"""

from mesh.render.kubernetes.pod import Images
from mesh.render.kubernetes.renderer import KubernetesRenderer

__all__ = ["Images", "KubernetesRenderer"]
