"""Refusals of anonymous callers, counted: a row for each would let a stranger fill the database."""

from datetime import timedelta

import structlog

from mesh.errors import Reason
from mesh.outbox.work import Work
from mesh.runtime.periodic import Periodic
from mesh.storage.database import Transaction
from services.auth import events
from services.auth.address import networks

_MINUTE = timedelta(minutes=1)
_BATCH = 500


class AnonymousDenials(Periodic):
    """Counts refusals by reason, network and minute.

    When a minute is over, each count is written as one `auth.anonymous_denials` event.
    """

    name = "anonymous_denials"
    seconds = 20.0
    log = structlog.get_logger("authmesh.denials")

    def __init__(self, work: Work) -> None:
        self._work = work

    async def count(self, tx: Transaction, reason: Reason, address: str) -> None:
        """Adds one refusal."""
        minute = self._work.now().replace(second=0, microsecond=0)
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
        async with self._work.begin() as tx:
            rows = await tx.fetch(
                """
                DELETE FROM anonymous_denials WHERE (minute, reason, network) IN (
                    SELECT minute, reason, network FROM anonymous_denials WHERE minute <= $1
                        ORDER BY minute LIMIT $2 FOR UPDATE SKIP LOCKED
                )
                RETURNING minute, reason, network, count
                """,
                self._work.now() - _MINUTE,
                _BATCH,
            )
            for row in rows:
                tx.record(events.anonymous_denials(row["reason"], row["network"], row["minute"], row["count"]))
        return len(rows)

    async def step(self) -> bool:
        """Flushes a batch."""
        return await self.flush() == _BATCH
