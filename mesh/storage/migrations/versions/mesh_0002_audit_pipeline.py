"""An index for backlogs, a place for outbox entries that no one takes, and the keys of the persons in audit events.

Until 0.2 these were made by each service's own first two revisions. A database of that time has them already.
"""

from alembic import op

revision = "mesh_0002"
down_revision = "mesh_0001"

STATEMENTS = (
    # What the relay takes first, in its order.
    """
    CREATE INDEX IF NOT EXISTS outbox_first ON outbox (kind, id)
    WHERE attempts = 0 AND (kind <> 'audit' OR sequence IS NOT NULL)
    """,
    "ALTER TABLE outbox ADD COLUMN IF NOT EXISTS refusals integer NOT NULL DEFAULT 0",
    """
    CREATE TABLE IF NOT EXISTS outbox_parked (
        id bigint PRIMARY KEY,
        kind text NOT NULL,
        destination text NOT NULL,
        payload bytea NOT NULL,
        sequence bigint,
        reason text NOT NULL,
        create_time timestamptz NOT NULL,
        park_time timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS subject_keys (
        subject text PRIMARY KEY,
        key bytea CHECK (length(key) = 32),
        create_time timestamptz NOT NULL DEFAULT now(),
        erase_time timestamptz,
        CHECK ((key IS NULL) = (erase_time IS NOT NULL))
    )
    """,
    "CREATE INDEX IF NOT EXISTS subject_keys_of_days ON subject_keys (create_time) WHERE subject LIKE 'days/%'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
