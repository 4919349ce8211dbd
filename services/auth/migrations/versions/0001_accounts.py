"""Accounts, sign-ups, and throttling."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    """
    CREATE TABLE accounts (
        user_id uuid PRIMARY KEY,
        email text NOT NULL UNIQUE,
        password_hash text NOT NULL,
        disabled boolean NOT NULL DEFAULT false,
        status_version bigint NOT NULL DEFAULT 0,
        create_time timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE sign_ups (
        user_id uuid PRIMARY KEY,
        request_id uuid UNIQUE,
        email text NOT NULL,
        display_name text NOT NULL,
        password_hash text NOT NULL,
        code_hash bytea,
        code_expire_time timestamptz NOT NULL,
        code_attempts integer NOT NULL DEFAULT 0,
        create_time timestamptz NOT NULL,
        verify_time timestamptz
    )
    """,
    "CREATE INDEX sign_ups_email ON sign_ups (email, create_time)",
    "CREATE INDEX sign_ups_create_time ON sign_ups (create_time)",
    """
    CREATE TABLE attempts (
        key bytea PRIMARY KEY,
        count integer NOT NULL,
        last_time timestamptz NOT NULL,
        blocked_until timestamptz
    )
    """,
    "CREATE INDEX attempts_last_time ON attempts (last_time)",
    """
    CREATE TABLE familiar_sources (
        key bytea PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
        last_time timestamptz NOT NULL
    )
    """,
    "CREATE INDEX familiar_sources_user_id ON familiar_sources (user_id)",
    """
    CREATE TABLE anonymous_denials (
        minute timestamptz NOT NULL,
        reason text NOT NULL,
        network text NOT NULL,
        count bigint NOT NULL,
        PRIMARY KEY (minute, reason, network)
    )
    """,
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in TABLES:
        op.execute(statement)
