"""Nothing any more: the outbox, which stood here, is made by the migrations of `mesh.storage`."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Changes nothing."""
