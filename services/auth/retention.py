"""Deleting what is of no use any more."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from mesh.errors import Unavailable
from mesh.storage.database import Database
from services.auth import store
from services.auth.account import SIGN_UP_LIFETIME

SWEEP_SECONDS = 600.0
BATCH = 1_000
"""Rows deleted at once: a statement that takes too long is rolled back, and would never get done."""
FAMILIAR_LIFETIME = timedelta(days=400)
"""How long a network or an installation is remembered after the last sign-in from it: longer than any session, at whose
end people sign in again."""


class Retention:
    """Sweeps the tables."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._tables = store.Retention()

    async def sweep(self) -> None:
        """Deletes what has expired."""
        now = self._clock()
        # A bucket that is full is as good as none.
        expired = {
            "sign_ups": now - SIGN_UP_LIFETIME,
            "codes": now,
            "buckets": now,
            "known_devices": now - FAMILIAR_LIFETIME,
        }
        more = True
        while more:
            async with self._database.transaction() as tx:
                more = await self._tables.sweep(tx, BATCH, **expired)

    async def run(self) -> None:
        """Sweeps for ever. A task of the server."""
        while True:
            with suppress(Unavailable):
                await self.sweep()
            await asyncio.sleep(SWEEP_SECONDS)
