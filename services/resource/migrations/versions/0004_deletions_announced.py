"""A deleted resource's shares stay until its viewers were told.

So a deletion writes three rows, however many see it.
"""

from alembic import op

revision = "0004_deletions_announced"
down_revision = "0003_fair_changes"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE shares DROP CONSTRAINT shares_resource_id_fkey",
    # Of those that wait the shares are gone: their viewers are told one by one.
    """
    INSERT INTO unnumbered_changes (user_id, resource_id, change)
    SELECT unnest(removed_from), resource_id, 3 FROM announcements WHERE removed_from IS NOT NULL
    """,
    "ALTER TABLE announcements ADD COLUMN removed boolean NOT NULL DEFAULT false",
    "UPDATE announcements SET removed = removed_from IS NOT NULL",
    "ALTER TABLE announcements DROP COLUMN removed_from",
)


def upgrade() -> None:
    """Changes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
