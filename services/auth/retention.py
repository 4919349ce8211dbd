"""Deleting what is of no use any more."""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from mesh.runtime.periodic import Periodic
from mesh.storage.database import Database
from services.auth import store
from services.auth.account import SIGN_UP_LIFETIME

BATCH = 1_000
"""Rows deleted at once: a statement that takes too long is rolled back, and would never get done."""
FAMILIAR_LIFETIME = timedelta(days=400)
"""How long a network or an installation is remembered after the last sign-in from it: longer than any session, at whose
end people sign in again."""


class Retention(Periodic):
    """Sweeps the tables."""

    name = "retention"
    seconds = 600.0
    log = structlog.get_logger("authmesh.retention")

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._tables = store.Retention()

    async def step(self) -> bool:
        """Deletes a batch of what has expired."""
        now = self._clock()
        # A bucket that is full is as good as none.
        expired = {
            "sign_ups": now - SIGN_UP_LIFETIME,
            "codes": now,
            "buckets": now,
            "known_devices": now - FAMILIAR_LIFETIME,
        }
        async with self._database.transaction() as tx:
            return await self._tables.sweep(tx, BATCH, **expired)
