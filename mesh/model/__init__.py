"""The mesh as data, in App Mesh's vocabulary, and whether it agrees with the contract."""
