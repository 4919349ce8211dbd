"""Keys of the persons in audit events, and a place for outbox entries that nobody takes."""

from alembic import op

from mesh.outbox import outbox

revision = "0002_audit_pipeline"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    outbox.create_pipeline_tables(op)
