"""Ids of users who were deleted, and the ways to find one by the beginning of an address or a name."""

from alembic import op

revision = "0003_deletion"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    # A command that comes late must not make the profile again.
    "CREATE TABLE deleted_users (id uuid PRIMARY KEY)",
    # By bytes, so that everything with one beginning is one range.
    'CREATE INDEX users_by_email ON users (email COLLATE "C", id)',
    'CREATE INDEX users_by_name ON users (lower(display_name) COLLATE "C", id)',
)


def upgrade() -> None:
    """Makes the table and the indexes."""
    for statement in STATEMENTS:
        op.execute(statement)
