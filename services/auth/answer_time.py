"""Answers that take the same time whatever they found (OWASP ASVS 6.3.8)."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from mesh.errors import MeshError


class AnswerTime:
    """Holds an answer back until a fixed time after the question. The work behind an answer is alike for known and unknown addresses already; this
    levels what is left: a row found, an index touched, a lock waited for.
    """

    def __init__(
        self, seconds: float, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Args:
        seconds: The earliest that an answer leaves. Above what the work takes, or it levels nothing.
        """
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep

    @asynccontextmanager
    async def level(self, *, success: bool = True) -> AsyncIterator[None]:
        """Holds refusals back, and successes too unless told not to (a sign-in that works says by itself that there is an account)."""
        earliest = self._clock() + self._seconds
        try:
            yield
        except MeshError:
            await self._until(earliest)
            raise
        if success:
            await self._until(earliest)

    async def _until(self, moment: float) -> None:
        if (left := moment - self._clock()) > 0:
            await self._sleep(left)
