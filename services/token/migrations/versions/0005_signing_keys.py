"""Signing keys."""

from alembic import op

revision = "0005_signing_keys"
down_revision = "0004_unanswered_refreshes"

STATEMENTS = (
    # One row: the holder of its lock decides about keys. By which pace, the running processes write down.
    """
    CREATE TABLE signing_key_ring (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        lead interval,
        period interval
    )
    """,
    "INSERT INTO signing_key_ring DEFAULT VALUES",
    # The times are the state: published until active_time, active until retire_time, in the JWKS until gone_time.
    """
    CREATE TABLE signing_keys (
        key_id text PRIMARY KEY,
        algorithm text NOT NULL CHECK (algorithm IN ('ES256', 'RS256')),
        public_jwk jsonb NOT NULL,
        custody text NOT NULL,
        material bytea,
        publish_time timestamptz NOT NULL,
        ordered boolean NOT NULL DEFAULT false,
        active_time timestamptz,
        retire_time timestamptz,
        gone_time timestamptz,
        revoke_time timestamptz,
        CHECK ((retire_time IS NULL AND revoke_time IS NULL) = (gone_time IS NULL)),
        CHECK (retire_time IS NULL OR active_time IS NOT NULL)
    )
    """,
    # What the lock promises, the table keeps.
    """
    CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys ((true))
    WHERE active_time IS NOT NULL AND retire_time IS NULL AND revoke_time IS NULL
    """,
    (
        "CREATE UNIQUE INDEX signing_keys_one_published ON signing_keys ((true)) WHERE active_time IS "
        "NULL AND revoke_time IS NULL"
    ),
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
