"""Subjects, sessions, refresh tokens, and the revocation log."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = (
    # Token's copy of who may do what; User decides. `not_before`: no token may say it was issued at that second or
    # earlier.
    """
    CREATE TABLE subjects (
        id uuid PRIMARY KEY,
        roles text[] NOT NULL DEFAULT '{}',
        disabled boolean NOT NULL DEFAULT false,
        version bigint NOT NULL DEFAULT 0,
        not_before timestamptz NOT NULL DEFAULT 'epoch'
    )
    """,
    # `roles` and `not_before` are copied from the subject, so that a refresh touches one row here and the row's lock
    # orders it with role changes.
    """
    CREATE TABLE sessions (
        id uuid PRIMARY KEY,
        subject uuid NOT NULL REFERENCES subjects (id),
        client_id text NOT NULL,
        instance_id uuid,
        display_name text NOT NULL,
        platform text NOT NULL,
        scopes text[] NOT NULL,
        roles text[] NOT NULL,
        not_before timestamptz NOT NULL,
        auth_time timestamptz NOT NULL,
        amr text[] NOT NULL,
        address text NOT NULL,
        user_agent text NOT NULL,
        dpop_jkt text,
        create_time timestamptz NOT NULL,
        last_used_time timestamptz NOT NULL,
        refresh_expire_time timestamptz NOT NULL,
        expire_time timestamptz NOT NULL,
        end_time timestamptz
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX sessions_live ON sessions (subject, id) WHERE end_time IS NULL",
    "CREATE INDEX sessions_expire ON sessions (expire_time)",
    # No foreign key to the session: rows are made in the statement that has just locked it, and the check would cost a
    # refresh a tenth.
    """
    CREATE TABLE refresh_tokens (
        hash bytea PRIMARY KEY,
        session_id uuid NOT NULL,
        token_id uuid NOT NULL,
        issue_time timestamptz NOT NULL,
        access_expire_time timestamptz NOT NULL,
        expire_time timestamptz NOT NULL,
        scopes text[] NOT NULL,
        roles text[] NOT NULL,
        rotate_time timestamptz,
        successor bytea,
        sealed_successor bytea,
        replays smallint NOT NULL DEFAULT 0,
        replayed_ancestors smallint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 80)
    """,
    # Rows are made roughly in the order in which they expire, which is what BRIN is small for.
    "CREATE INDEX refresh_tokens_expire ON refresh_tokens USING brin (expire_time)",
    # One row: its lock orders the commits of revocations, so that sequences become visible without gaps.
    """
    CREATE TABLE revocation_log (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        epoch uuid NOT NULL DEFAULT gen_random_uuid(),
        sequence bigint NOT NULL DEFAULT 0
    )
    """,
    "INSERT INTO revocation_log DEFAULT VALUES",
    """
    CREATE TABLE revocations (
        sequence bigint PRIMARY KEY,
        kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 5),
        value text NOT NULL,
        not_before bigint NOT NULL,
        expire_time bigint NOT NULL
    )
    """,
    "CREATE INDEX revocations_expire ON revocations (expire_time)",
    # Commands that were carried out, so that a repeat changes nothing.
    """
    CREATE TABLE commands (
        request_id uuid PRIMARY KEY,
        create_time timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX commands_create ON commands (create_time)",
)


def upgrade() -> None:
    for table in TABLES:
        op.execute(table)
