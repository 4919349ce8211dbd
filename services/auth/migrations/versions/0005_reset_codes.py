"""Codes that reset a password."""

from alembic import op

revision = "0005_reset_codes"
down_revision = "0004_known_devices_by_age"

STATEMENTS = (
    """
    CREATE TABLE reset_codes (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
        digest bytea NOT NULL,
        expire_time timestamptz NOT NULL
    )
    """,
    "CREATE INDEX reset_codes_user_id ON reset_codes (user_id, digest)",
    "CREATE INDEX reset_codes_expire_time ON reset_codes (expire_time)",
)


def upgrade() -> None:
    """Makes the table."""
    for statement in STATEMENTS:
        op.execute(statement)
