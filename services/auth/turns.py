"""Turns at what anonymous callers compete for: the database and Argon2's processor time.

Few at once, and the rest wait in a fair queue.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from mesh.errors import Reason, ResourceExhausted
from mesh.telemetry.metrics import HASHES_WAITING
from services.auth.address import networks
from services.auth.fair_queue import FairQueue

Turn = asyncio.Future[None]


class Turns:
    """Gives turns.

    Without them, the one who sends most would have most of it; and many networks, each below its limits, all of it.
    """

    def __init__(self, *, at_once: int, waiting: int) -> None:
        """Initializes the instance.

        Args:
            at_once: Callers who have a turn at the same time. Enough to keep every thread busy, and no more: behind
                them it is first come, first served.
            waiting: Callers who may wait for one. Beyond it one is shed, of the network that had and asks for most:
                they would pile up past their deadlines.
        """
        self._queue: FairQueue[Turn] = FairQueue()
        self._free = at_once
        self._waiting = waiting
        HASHES_WAITING.set_function(self._queue.__len__)

    @asynccontextmanager
    async def take(self, caller: str) -> AsyncIterator[None]:
        """Waits for a turn, which lasts for the length of the block.

        Args:
            caller: The caller's address.

        Raises:
            ResourceExhausted: OVERLOADED. Nothing was looked at.
        """
        turn = asyncio.get_running_loop().create_future()
        self._queue.put(turn, networks(caller), self._now())
        self._next()
        if len(self._queue) > self._waiting:
            overload = ResourceExhausted(
                Reason.OVERLOADED, "too many people at once: try again", retry_after=timedelta(seconds=1)
            )
            self._queue.shed(self._now()).set_exception(overload)
        try:
            await turn
            yield
        finally:
            # A caller who left the queue never had one.
            self._queue.discard(turn)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._free += 1
                self._next()

    def _next(self) -> None:
        while self._free and self._queue:
            turn = self._queue.take(self._now())
            if not turn.done():
                self._free -= 1
                turn.set_result(None)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
