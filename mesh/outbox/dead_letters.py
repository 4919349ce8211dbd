"""Entries that their destination will never take, put aside: in `outbox_parked`, off everybody's way, with an alarm.

A message leaves only its kind: its code is stale by then, and an address is nobody's to keep. An audit event keeps its
sealed form, a tombstone takes its number, and a statement at the end of the chain vouches for the tombstone. Commands
are never parked: what they ask for must happen, and their age raises the alarm of the backlog.
"""

from collections.abc import Mapping
from typing import Any

import structlog
from authmesh.audit.v1.audit_event_pb2 import AuditEvent

from mesh.audit import tombstone
from mesh.storage.database import Database, Transaction

PARK_AFTER = 5
"""How often an entry must have been refused for what it is."""

PARKED_TABLE = """
    CREATE TABLE outbox_parked (
        id bigint PRIMARY KEY,
        kind text NOT NULL,
        destination text NOT NULL,
        payload bytea NOT NULL,
        sequence bigint,
        reason text NOT NULL,
        create_time timestamptz NOT NULL,
        park_time timestamptz NOT NULL DEFAULT now()
    )
    """

TABLES = (
    "ALTER TABLE outbox ADD COLUMN refusals integer NOT NULL DEFAULT 0",
    PARKED_TABLE,
)

_PARK = """
INSERT INTO outbox_parked (id, kind, destination, payload, sequence, reason, create_time)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
"""

_STATE = "INSERT INTO outbox (kind, destination, payload) VALUES ('audit', $1, $2)"
_NEVER_PARKED = (tombstone.PARKED, tombstone.STATEMENT)
"""Without them the chain has a gap, or a tombstone that nobody believes: they are sent until they are taken."""

_log = structlog.get_logger("authmesh.outbox")


def create_tables(op: Any) -> None:
    """Makes what parking needs in a service's migration. `op` is `alembic.op`."""
    for statement in TABLES:
        op.execute(statement)


async def count_refusals(database: Database, refused: Mapping[int, str]) -> None:
    """Counts that a destination refused these entries, and parks those that it refused too often.

    Args:
        database: The service's.
        refused: The destination's reason, by id.
    """
    async with database.transaction() as tx:
        rows = await tx.fetch(
            """
            UPDATE outbox SET refusals = refusals + 1 WHERE id = ANY($1::bigint[])
            RETURNING id, kind, destination, payload, sequence, refusals, create_time
            """,
            sorted(refused),
        )
        for row in rows:
            if row["refusals"] >= PARK_AFTER and row["kind"] != "command" and row["destination"] not in _NEVER_PARKED:
                await _park(tx, row, refused[row["id"]])


async def _park(tx: Transaction, row: Any, reason: str) -> None:
    is_event = row["kind"] == "audit"
    kept = row["payload"] if is_event else b""
    await tx.execute(
        _PARK, row["id"], row["kind"], row["destination"], kept, row["sequence"], reason, row["create_time"]
    )
    if is_event:
        stone = tombstone.numbered(AuditEvent.FromString(row["payload"]), reason)
        await tx.execute(
            "UPDATE outbox SET destination = $2, payload = $3, refusals = 0, attempts = 0, "
            "next_attempt_time = now() WHERE id = $1",
            row["id"],
            tombstone.PARKED,
            stone.SerializeToString(deterministic=True),
        )
        stated = tombstone.statement(stone)
        await tx.execute(_STATE, stated.type, stated.SerializeToString(deterministic=True))
    else:
        await tx.execute("DELETE FROM outbox WHERE id = $1", row["id"])
    _log.error(
        "event parked" if is_event else "message parked",
        type=row["destination"],
        reason=reason,
        sequence=row["sequence"],
    )
