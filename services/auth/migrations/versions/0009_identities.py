"""Identities of other providers."""

from alembic import op

revision = "0009_identities"
down_revision = "0008_passkeys"

STATEMENTS = (
    """
    CREATE TABLE identities (
        id uuid PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
        issuer text NOT NULL,
        subject text NOT NULL,
        email text NOT NULL,
        create_time timestamptz NOT NULL,
        last_used_time timestamptz,
        UNIQUE (issuer, subject)
    )
    """,
    "CREATE INDEX identities_user_id ON identities (user_id, id)",
)


def upgrade() -> None:
    """Makes the table."""
    for statement in STATEMENTS:
        op.execute(statement)
