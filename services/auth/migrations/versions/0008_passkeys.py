"""Passkeys, and what works once and was used."""

from alembic import op

revision = "0008_passkeys"
down_revision = "0007_reauthentication"

STATEMENTS = (
    """
    CREATE TABLE passkeys (
        credential_id bytea PRIMARY KEY,
        id uuid NOT NULL UNIQUE,
        user_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
        credential bytea NOT NULL,
        sign_count bigint NOT NULL,
        backup_eligible boolean NOT NULL,
        backed_up boolean NOT NULL,
        transports text[] NOT NULL,
        user_handle bytea NOT NULL,
        display_name text NOT NULL,
        create_time timestamptz NOT NULL,
        last_used_time timestamptz
    )
    """,
    "CREATE INDEX passkeys_user_id ON passkeys (user_id, id)",
    "CREATE TABLE spent (digest bytea PRIMARY KEY, expire_time timestamptz NOT NULL)",
    "CREATE INDEX spent_expire_time ON spent (expire_time)",
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
