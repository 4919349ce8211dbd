"""The outbox: Audit writes down whom its own access rules refuse. The projection for queries comes with them."""

from alembic import op

from mesh.outbox.outbox import create_tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the tables."""
    create_tables(op)
