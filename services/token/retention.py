"""Deletes rows that can never be used again, in small batches, so that no table grows with the age of the mesh."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from mesh.errors import Unavailable
from mesh.runtime.interruption import Interruption
from mesh.storage.database import Database

PURGE_SECONDS = 60.0
BATCH = 1000
KEPT_AFTER_EXPIRY = timedelta(days=1)
"""Longer than any grace or clock difference, for whoever looks into an incident."""

# In the order of the index, whatever the planner believes of a time that it does not know: an idle pass reads nothing.
_DELETE = """
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {table} WHERE {expired} ORDER BY {column} LIMIT $2 FOR UPDATE SKIP LOCKED
))
"""
STATEMENTS = tuple(
    _DELETE.format(table=table, column=column, expired=expired)
    for table, column, expired in (
        ("refresh_tokens", "expire_time", "expire_time < $1"),
        ("sessions", "expire_time", "expire_time < $1"),
        (
            # The newest stays whatever its age: the publisher compares it with what Redis has.
            "revocations",
            "expire_time",
            (
                "expire_time < extract(epoch FROM $1::timestamptz)::bigint "
                "AND sequence < (SELECT sequence FROM revocation_log)"
            ),
        ),
        ("commands", "create_time", "create_time < $1::timestamptz - interval '30 days'"),
        ("client_assertions", "expire_time", "expire_time < $1"),
    )
)
"""$1: rows whose time ended before it; $2: how many."""
_log = structlog.get_logger("authmesh.purge")


class Retention:
    """Deletes what is past use."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        """Args:
        database: Token's own.
        clock: The time.
        """
        self._database = database
        self._clock = clock

    async def run(self) -> None:
        """Purges every minute, for ever. A task of the server."""
        interruption = Interruption(_log, "purge interrupted")
        while True:
            try:
                while await self.purge_once():
                    pass
                interruption.ended()
            except Unavailable as error:
                interruption.failed(reason=error.reason)
            await asyncio.sleep(PURGE_SECONDS)

    async def purge_once(self) -> bool:
        """Deletes a batch of each kind. True when there may be more."""
        before = self._clock() - KEPT_AFTER_EXPIRY
        tags = [await self._database.execute(statement, before, BATCH) for statement in STATEMENTS]
        return f"DELETE {BATCH}" in tags
