"""Answers that take the same time whatever they found (OWASP ASVS 6.3.8)."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from mesh.errors import MeshError


class ConstantTime:
    """Holds an answer back until a whole number of steps after the question.

    The work behind an answer is alike for known and unknown addresses already; this levels what is left: a row found,
    an index touched, a lock waited for. In steps, because under load the work takes longer than one.
    """

    def __init__(
        self,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Initializes the instance.

        Args:
            seconds: The step. Above what the work takes, or it levels little; 0 levels nothing.
            clock: Monotonic seconds.
            sleep: Waits for seconds.
        """
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep

    @asynccontextmanager
    async def pad(self, *, success: bool = True) -> AsyncIterator[None]:
        """Holds refusals back, and successes too unless told not to.

        A sign-in that works says by itself that there is an account.
        """
        start = self._clock()
        try:
            yield
        except MeshError:
            await self._step(start)
            raise
        if success:
            await self._step(start)

    async def _step(self, start: float) -> None:
        if not self._seconds:
            return
        spent = self._clock() - start
        left = max(math.ceil(spent / self._seconds), 1) * self._seconds - spent
        if left > 0:
            await self._sleep(left)
