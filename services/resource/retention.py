"""Forgetting what nobody may ask for any more, in small batches, so that no purge holds up a call."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from mesh.errors import Unavailable
from mesh.runtime.interruption import Interruption
from mesh.storage.database import Database
from services.resource import store
from services.resource.change_log import ChangeLog
from services.resource.resources import REQUEST_ID_LIFETIME

BATCH = 1_000
PAUSE_SECONDS = 60.0

_log = structlog.get_logger("authmesh.housekeeping")


class Retention:
    """Purges changes and request ids. Any number of replicas may do it at once."""

    def __init__(
        self, database: Database, changes: ChangeLog, change_retention: timedelta, *, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._changes = changes
        self._change_retention = change_retention
        self._clock = clock

    async def run(self) -> None:
        """Purges every minute, for ever. A task of the server."""
        interruption = Interruption(_log, "not purged")
        while True:
            try:
                await self.purge()
                interruption.ended()
            except Unavailable as error:
                interruption.failed(reason=error.reason)
            await asyncio.sleep(PAUSE_SECONDS)

    async def purge(self) -> None:
        """Purges until nothing is left that is too old."""
        now = self._clock()
        while await self._changes.purge(now - self._change_retention, BATCH) == BATCH:
            pass
        while await store.purge_requests(self._database, now - REQUEST_ID_LIFETIME, BATCH) == BATCH:
            pass
