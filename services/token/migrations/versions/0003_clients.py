"""Clients, and the assertions that were used."""

from alembic import op

revision = "0003_clients"
down_revision = "0001"

TABLES = (
    # A deleted client stays as a row: the file that it came from must not bring it back, and its tokens of before stay
    # refused when its id is used again. `not_before`: no token may say it was issued at that second or earlier.
    """
    CREATE TABLE clients (
        id text PRIMARY KEY,
        display_name text NOT NULL,
        confidential boolean NOT NULL,
        scopes text[] NOT NULL,
        access_token_seconds integer NOT NULL,
        refresh_idle_seconds integer NOT NULL,
        session_seconds integer NOT NULL,
        refresh_grace_seconds integer NOT NULL,
        session_limit integer NOT NULL,
        instance_required boolean NOT NULL,
        jwks text NOT NULL,
        disabled boolean NOT NULL,
        version bigint NOT NULL DEFAULT 1,
        not_before timestamptz NOT NULL DEFAULT 'epoch',
        delete_time timestamptz
    )
    """,
    "CREATE INDEX sessions_of_client ON sessions (client_id, id) WHERE end_time IS NULL",
    # The `jti` of every assertion that was accepted, for as long as it could be sent again.
    """
    CREATE TABLE client_assertions (
        client_id text NOT NULL,
        token_id text NOT NULL,
        expire_time timestamptz NOT NULL,
        PRIMARY KEY (client_id, token_id)
    )
    """,
    "CREATE INDEX client_assertions_expire ON client_assertions (expire_time)",
)


def upgrade() -> None:
    for table in TABLES:
        op.execute(table)
