"""Deletes rows that can never be used again, in small batches, so that no table grows with the age of the mesh."""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from mesh.errors import Unavailable
from mesh.runtime.periodic import Periodic
from mesh.storage.database import Database

BATCH = 1000
KEPT_AFTER_EXPIRY = timedelta(days=1)
"""Longer than any grace or clock difference, for those who look into an incident."""

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


class Retention(Periodic):
    """Deletes what is past use."""

    name = "retention"
    seconds = 60.0
    log = structlog.get_logger("authmesh.retention")

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        """Initializes the instance.

        Args:
            database: Token's own.
            clock: The time.
        """
        self._database = database
        self._clock = clock

    async def step(self) -> bool:
        """Deletes a batch of each kind."""
        before = self._clock() - KEPT_AFTER_EXPIRY
        tags, failed = [], None
        for statement in STATEMENTS:
            try:
                tags.append(await self._database.execute(statement, before, BATCH))
            except Unavailable as error:
                # One that takes too long must not keep the others from their tables.
                failed = error
        if failed:
            raise failed
        return f"DELETE {BATCH}" in tags
