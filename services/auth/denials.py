"""Refusals of anonymous callers, counted: a row for each would let a stranger fill the database."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from authmesh.audit.v1 import audit_event_pb2

from mesh.errors import Reason, Unavailable
from mesh.outbox.outbox import Outbox
from mesh.storage.database import Database, Transaction
from services.auth.address import networks

FLUSH_SECONDS = 20.0
_MINUTE = timedelta(minutes=1)
_BATCH = 500


class AnonymousDenials:
    """Counts by reason, network and minute, and writes each count as one `auth.anonymous_denials` event when its minute
    is over.
    """

    def __init__(self, database: Database, outbox: Outbox, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._outbox = outbox
        self._clock = clock

    async def count(self, tx: Transaction, reason: Reason, address: str) -> None:
        """Adds one refusal."""
        minute = self._clock().replace(second=0, microsecond=0)
        await tx.execute(
            """
            INSERT INTO anonymous_denials AS known (minute, reason, network, count) VALUES ($1, $2, $3, 1)
            ON CONFLICT (minute, reason, network) DO UPDATE SET count = known.count + 1
            """,
            minute,
            reason.value,
            networks(address)[0],
        )

    async def flush(self) -> int:
        """Turns finished minutes into events. Returns how many."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(
                """
                DELETE FROM anonymous_denials WHERE (minute, reason, network) IN (
                    SELECT minute, reason, network FROM anonymous_denials WHERE minute <= $1
                        ORDER BY minute LIMIT $2 FOR UPDATE SKIP LOCKED
                )
                RETURNING minute, reason, network, count
                """,
                self._clock() - _MINUTE,
                _BATCH,
            )
            for row in rows:
                event = audit_event_pb2.AuditEvent(
                    type="auth.anonymous_denials",
                    outcome=audit_event_pb2.OUTCOME_FAILURE,
                    reason=row["reason"],
                    address=row["network"],
                    detail={"count": str(row["count"]), "minute": row["minute"].isoformat()},
                )
                await self._outbox.record(tx, event)
        return len(rows)

    async def run(self) -> None:
        """Flushes for ever. A task of the server."""
        while True:
            try:
                full = await self.flush() == _BATCH
            except Unavailable:
                full = False
            if not full:
                await asyncio.sleep(FLUSH_SECONDS)
