"""The mesh as resources of AWS App Mesh (`appmesh.k8s.aws/v1beta2`), for those who still keep them.

AWS closed the service on 2026-09-30; its resources remain a vocabulary that other tools read.
"""

from mesh.render.appmesh.api import AppMeshApiRenderer
from mesh.render.appmesh.renderer import AppMeshRenderer

__all__ = ["AppMeshApiRenderer", "AppMeshRenderer"]
