"""The outbox, and the chain of the audit events in it.

Until 0.2 these tables were made by each service's own first two revisions. A database of that time has them already.
"""

from alembic import op

revision = "mesh_0001"
down_revision = None
branch_labels = ("mesh",)

STATEMENTS = (
    """
    CREATE TABLE IF NOT EXISTS outbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind text NOT NULL CHECK (kind IN ('audit', 'message', 'command')),
        destination text NOT NULL,
        payload bytea NOT NULL,
        sequence bigint,
        attempts integer NOT NULL DEFAULT 0,
        create_time timestamptz NOT NULL DEFAULT now(),
        next_attempt_time timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX IF NOT EXISTS outbox_due ON outbox (kind, next_attempt_time, id)",
    "CREATE INDEX IF NOT EXISTS outbox_unnumbered ON outbox (id) WHERE kind = 'audit' AND sequence IS NULL",
    """
    CREATE TABLE IF NOT EXISTS outbox_chain (
        source text PRIMARY KEY,
        sequence bigint NOT NULL DEFAULT 0,
        hash bytea NOT NULL DEFAULT ''
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
