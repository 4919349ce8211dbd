"""The projection of the trail, for queries, and where the checkpointer stands. All of it can be made again from S3."""

from alembic import op

revision = "0003_projection"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE trail_event (
        position bigint PRIMARY KEY,
        source text NOT NULL,
        sequence bigint NOT NULL,
        previous_hash bytea NOT NULL,
        hash bytea NOT NULL,
        digest bytea NOT NULL,
        event_time timestamptz NOT NULL,
        type text NOT NULL,
        actor text NOT NULL,
        subject text NOT NULL,
        event bytea NOT NULL,
        UNIQUE (source, sequence, digest)
    )
    """,
    "CREATE INDEX trail_event_by_time ON trail_event (event_time, position)",
    "CREATE INDEX trail_event_by_type ON trail_event (type, event_time, position)",
    "CREATE INDEX trail_event_by_actor ON trail_event (actor, event_time, position) WHERE actor <> ''",
    "CREATE INDEX trail_event_by_subject ON trail_event (subject, event_time, position) WHERE subject <> ''",
    # One row. Its lock gives out positions, so that they are committed in their order and a watch may follow them.
    "CREATE TABLE trail_head (position bigint NOT NULL)",
    "INSERT INTO trail_head VALUES (0)",
    """
    CREATE TABLE trail_source (
        source text PRIMARY KEY,
        sequence bigint NOT NULL,
        hash bytea NOT NULL,
        day date NOT NULL,
        seen bigint NOT NULL
    )
    """,
    """
    CREATE TABLE trail_object (
        key text COLLATE "C" PRIMARY KEY,
        source text NOT NULL,
        day date NOT NULL,
        events integer NOT NULL,
        root bytea NOT NULL,
        is_read boolean NOT NULL,
        checkpoint bigint
    )
    """,
    "CREATE INDEX trail_object_open ON trail_object (key) WHERE checkpoint IS NULL",
    # One row. The holder of its lock is the checkpointer.
    "CREATE TABLE checkpoint_chain (number bigint NOT NULL, hash bytea NOT NULL, time timestamptz NOT NULL)",
    "INSERT INTO checkpoint_chain VALUES (0, '', 'epoch')",
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
