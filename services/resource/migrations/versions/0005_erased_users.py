"""Ids of users who were deleted: nothing becomes theirs any more, whatever comes late."""

from alembic import op

revision = "0005_erased_users"
down_revision = "0004_deletions_announced"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.execute("CREATE TABLE erased_users (id uuid PRIMARY KEY)")
