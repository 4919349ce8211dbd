"""Indexes that keep a backlog of a million entries cheap: what is due again, and the oldest of each kind."""

from alembic import op

revision = "mesh_0003"
down_revision = "mesh_0002"

STATEMENTS = (
    # In place of `outbox_due`, which held every entry that was never sent, too.
    "CREATE INDEX outbox_again ON outbox (kind, next_attempt_time, id) WHERE attempts > 0",
    "DROP INDEX outbox_due",
    "CREATE INDEX outbox_oldest ON outbox (kind, id)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
