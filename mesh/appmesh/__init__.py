"""A mesh as App Mesh had it: its model, whole; its manifests, read and written; and the Envoys that it comes to.

For those who were left with App Mesh's manifests and no control plane. Who may call what rests on backends and
certificates there. A mesh with access rules, tokens and limits is `mesh.model.mesh`; both are written as mesh.yaml, and
`authorization: none` marks one of this kind.
"""
