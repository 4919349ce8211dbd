"""Resources, their shares, and the log of their changes."""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = (
    """
    CREATE TABLE resources (
        id uuid PRIMARY KEY,
        owner_id uuid NOT NULL,
        display_name text NOT NULL,
        content text NOT NULL,
        version bigint NOT NULL,
        create_time timestamptz NOT NULL,
        update_time timestamptz NOT NULL
    )
    """,
    "CREATE INDEX resources_owned ON resources (owner_id, id)",
    """
    CREATE TABLE shares (
        id uuid PRIMARY KEY,
        resource_id uuid NOT NULL REFERENCES resources ON DELETE CASCADE,
        grantee text NOT NULL,
        email text,
        holder_id uuid,
        role smallint NOT NULL CHECK (role IN (1, 2)),
        create_time timestamptz NOT NULL,
        lookup_time timestamptz,
        UNIQUE (resource_id, grantee)
    )
    """,
    "CREATE INDEX shares_listed ON shares (resource_id, id)",
    "CREATE INDEX shares_held ON shares (holder_id, resource_id) WHERE holder_id IS NOT NULL",
    "CREATE INDEX shares_unclaimed ON shares (grantee) WHERE holder_id IS NULL",
    "CREATE INDEX shares_to_look_up ON shares (lookup_time) WHERE lookup_time IS NOT NULL",
    """
    CREATE TABLE creations (
        caller_id uuid NOT NULL,
        request_id uuid NOT NULL,
        digest bytea NOT NULL,
        resource_id uuid NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (caller_id, request_id)
    )
    """,
    "CREATE INDEX creations_by_age ON creations (create_time)",
    # Written with the change that they tell of; numbered afterwards (services/resource/change_log.py).
    """
    CREATE TABLE unnumbered_changes (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        user_id uuid NOT NULL,
        resource_id uuid NOT NULL,
        change smallint NOT NULL
    )
    """,
    """
    CREATE TABLE changes (
        sequence bigint PRIMARY KEY,
        user_id uuid NOT NULL,
        resource_id uuid NOT NULL,
        change smallint NOT NULL,
        create_time timestamptz NOT NULL
    )
    """,
    "CREATE INDEX changes_of_user ON changes (user_id, sequence)",
    "CREATE TABLE change_head (sequence bigint NOT NULL, purged bigint NOT NULL)",
    "INSERT INTO change_head (sequence, purged) VALUES (0, 0)",
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
