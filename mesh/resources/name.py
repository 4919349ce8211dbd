"""Resource names (AIP-122): made and taken apart by one class. A context defines those that are its own."""


class NamePattern:
    """One kind of name: `users/{user}/sessions/{session}`."""

    __slots__ = ("_collections",)

    def __init__(self, *collections: str) -> None:
        """Initializes the instance.

        Args:
            *collections: The parts of the name that are always the same, in their order: `users`, `sessions`.
        """
        self._collections = collections

    def of(self, *ids: object) -> str:
        """The name with these ids, one for each collection."""
        return "/".join([f"{name}/{item}" for name, item in zip(self._collections, ids, strict=True)])

    def ids(self, name: str) -> tuple[str, ...]:
        """The ids in a name.

        Raises:
            ValueError: It is not such a name. The contract's field rules keep these from handlers.
        """
        parts = name.split("/")
        ids = tuple(parts[1::2])
        if tuple(parts[::2]) != self._collections or len(ids) != len(self._collections):
            raise ValueError(f"not a name of {'/'.join(self._collections)}")
        return ids

    def id(self, name: str) -> str:
        """The last id in a name.

        Raises:
            ValueError: It is not such a name.
        """
        return self.ids(name)[-1]


USER = NamePattern("users")
SESSION = NamePattern("users", "sessions")
CLIENT = NamePattern("clients")
NODE = NamePattern("nodes")
"""A virtual node of mesh.yaml, where it acts itself."""
