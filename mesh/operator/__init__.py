"""Commands that operate a mesh, wherever it runs."""
