"""What happens to the mesh when its parts die under load."""
