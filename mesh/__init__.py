"""What makes separate processes one mesh.

Nothing here knows any one service; `mesh.yaml`, which is data, names them.
"""
