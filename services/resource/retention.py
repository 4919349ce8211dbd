"""Forgetting what no one may ask for any more, in small batches, so that no purge holds up a call."""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from mesh.runtime.periodic import Periodic
from mesh.storage.database import Database
from services.resource import store
from services.resource.change_log import ChangeLog
from services.resource.resources import REQUEST_ID_LIFETIME

BATCH = 1_000


class Retention(Periodic):
    """Purges changes and request ids. Any number of replicas may do it at once."""

    name = "retention"
    seconds = 60.0
    log = structlog.get_logger("authmesh.retention")

    def __init__(
        self, database: Database, changes: ChangeLog, change_retention: timedelta, *, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._changes = changes
        self._change_retention = change_retention
        self._clock = clock

    async def step(self) -> bool:
        """Deletes a batch of what is too old."""
        now = self._clock()
        changes = await self._changes.purge(now - self._change_retention, BATCH)
        requests = await store.purge_requests(self._database, now - REQUEST_ID_LIFETIME, BATCH)
        return BATCH in (changes, requests)
