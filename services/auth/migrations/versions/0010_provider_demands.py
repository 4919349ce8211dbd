"""Sign-ins that wait for what the identity provider asks for."""

from alembic import op

revision = "0010_provider_demands"
down_revision = "0009_identities"

STATEMENTS = (
    """
    CREATE TABLE provider_demands (
        digest bytea PRIMARY KEY,
        sealed bytea NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        expire_time timestamptz NOT NULL
    )
    """,
    "CREATE INDEX provider_demands_expire_time ON provider_demands (expire_time)",
)


def upgrade() -> None:
    """Makes the table."""
    for statement in STATEMENTS:
        op.execute(statement)
