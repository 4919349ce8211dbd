"""Those who have a role are found without reading all users."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the index."""
    op.execute("CREATE INDEX users_holders ON users (id) WHERE roles <> '{}'")
