"""Entries that their destination will never take, put aside with an alarm.

In `outbox_parked`, where they hold up nothing. What is kept of one, and what takes its place, is its sink's to say
(`Sink.on_dead_letter`).
"""

from collections.abc import Mapping
from typing import Any

import structlog

from mesh.outbox.outbox import INSERT
from mesh.outbox.sink import DeadLetter, Entry, Sink
from mesh.storage.database import Database, Transaction

PARK_AFTER = 5
"""How often an entry must have been refused for what it is."""

_PARK = """
INSERT INTO outbox_parked (id, kind, destination, payload, sequence, reason, create_time)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
"""
_REPLACE = """
UPDATE outbox SET destination = $2, payload = $3, refusals = 0, attempts = 0, next_attempt_time = now() WHERE id = $1
"""

_log = structlog.get_logger("authmesh.outbox")


async def count_refusals(database: Database, sink: Sink, refused: Mapping[int, str]) -> None:
    """Counts that a destination refused these entries, and parks those that it refused too often.

    Args:
        database: The service's.
        sink: The destination.
        refused: Its reason, by id.
    """
    async with database.transaction() as tx:
        rows = await tx.fetch(
            """
            UPDATE outbox SET refusals = refusals + 1 WHERE id = ANY($1::bigint[])
            RETURNING id, kind, destination, payload, sequence, attempts, refusals, create_time
            """,
            sorted(refused),
        )
        for row in rows:
            if row["refusals"] < PARK_AFTER:
                continue
            entry, reason = Entry(row["id"], row["destination"], row["payload"], row["attempts"]), refused[row["id"]]
            if letter := sink.on_dead_letter(entry, reason):
                await _park(tx, row, letter, reason)


async def _park(tx: Transaction, row: Any, letter: DeadLetter, reason: str) -> None:
    await tx.execute(
        _PARK, row["id"], row["kind"], row["destination"], letter.kept, row["sequence"], reason, row["create_time"]
    )
    if letter.replacement:
        await tx.execute(_REPLACE, row["id"], *letter.replacement)
    else:
        await tx.execute("DELETE FROM outbox WHERE id = $1", row["id"])
    if letter.statement:
        await tx.execute(INSERT, row["kind"], *letter.statement)
    _log.error("entry parked", kind=row["kind"], type=row["destination"], reason=reason, sequence=row["sequence"])
