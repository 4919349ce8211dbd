"""Authenticator apps, recovery codes, and sign-ins that wait for a second factor."""

from alembic import op

revision = "0006_second_factors"
down_revision = "0005_reset_codes"

STATEMENTS = (
    """
    CREATE TABLE totp (
        user_id uuid PRIMARY KEY REFERENCES accounts ON DELETE CASCADE,
        sealed bytea NOT NULL,
        key_version text NOT NULL,
        last_step bigint NOT NULL DEFAULT 0,
        enable_time timestamptz
    )
    """,
    """
    CREATE TABLE recovery_codes (
        user_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
        digest bytea NOT NULL,
        PRIMARY KEY (user_id, digest)
    )
    """,
    """
    CREATE TABLE challenges (
        digest bytea PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
        client_id text NOT NULL,
        device bytea NOT NULL,
        scopes text[] NOT NULL,
        installation_known boolean NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        expire_time timestamptz NOT NULL
    )
    """,
    "CREATE INDEX challenges_user_id ON challenges (user_id)",
    "CREATE INDEX challenges_expire_time ON challenges (expire_time)",
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
