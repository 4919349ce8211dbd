"""Users."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

USERS = """
    CREATE TABLE users (
        id uuid PRIMARY KEY,
        email text NOT NULL UNIQUE,
        display_name text NOT NULL,
        roles text[] NOT NULL DEFAULT '{}',
        disabled boolean NOT NULL DEFAULT false,
        version bigint NOT NULL DEFAULT 1,
        create_time timestamptz NOT NULL,
        update_time timestamptz NOT NULL
    )
"""


def upgrade() -> None:
    """Makes the tables."""
    op.execute(USERS)
    # Found and locked whenever one might be the last.
    op.execute("CREATE INDEX users_administrators ON users (id) WHERE 'admin' = ANY (roles) AND NOT disabled")
