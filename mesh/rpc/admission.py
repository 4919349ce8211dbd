"""The stage that bounds a call: how many at once, how large, and for how long. It also ends open streams when the server drains."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from mesh.errors import DeadlineExceeded, Reason, ResourceExhausted, Unavailable
from mesh.rpc.call import Call

UNARY_SECONDS = 30.0
"""The longest that a unary call may take, whatever deadline its caller set."""

MESSAGE_LIMIT = 4 * 1024 * 1024
"""Bytes of one message. The edge admits far less; what is larger comes from inside."""


class Admission:
    """Admits calls until `limit` are in flight; sheds the rest at once, so that those inside stay fast.

    Streams have a limit of their own, as large: they stay open for hours, and must not take the places of calls that take milliseconds.
    """

    def __init__(self, limit: int) -> None:
        """Args:
        limit: Unary calls in flight, and streams open, at once.
        """
        self._limit = limit
        self._unary = 0
        self._streams: set[asyncio.Task[object]] = set()
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Ends the open streams with UNAVAILABLE: their clients resume elsewhere. Unary calls go on to their end."""
        self._draining.set()
        for task in self._streams:
            task.cancel()

    @asynccontextmanager
    async def __call__(self, call: Call) -> AsyncIterator[None]:
        """The stage.

        Raises:
            ResourceExhausted: OVERLOADED, too many in flight; MESSAGE_TOO_LARGE.
            DeadlineExceeded: DEADLINE, the time was up.
            Unavailable: DEPENDENCY_UNAVAILABLE, the server is going away.
        """
        if (len(self._streams) if call.rpc.server_streaming else self._unary) >= self._limit:
            raise ResourceExhausted(Reason.OVERLOADED, "too many calls at once: wait and try again", retry_after=timedelta(seconds=1))
        if call.payload is not None and len(call.payload) > MESSAGE_LIMIT:
            raise ResourceExhausted(Reason.MESSAGE_TOO_LARGE, f"a message holds at most {MESSAGE_LIMIT} bytes")
        async with self._stream(call) if call.rpc.server_streaming else self._counted(call):
            yield

    @asynccontextmanager
    async def _counted(self, call: Call) -> AsyncIterator[None]:
        self._unary += 1
        try:
            async with self._bounded(call, UNARY_SECONDS):
                yield
        finally:
            self._unary -= 1

    @asynccontextmanager
    async def _bounded(self, call: Call, longest: float | None) -> AsyncIterator[None]:
        remaining = call.context.time_remaining()
        seconds = min((bound for bound in (remaining, longest) if bound is not None), default=None)
        try:
            async with asyncio.timeout(seconds) as bound:
                yield
        except TimeoutError:
            if not bound.expired():
                raise
            raise DeadlineExceeded(Reason.DEADLINE, "the time of this call was up; whether it took effect is unknown") from None

    @asynccontextmanager
    async def _stream(self, call: Call) -> AsyncIterator[None]:
        if self._draining.is_set():
            raise _going_away()
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            async with self._bounded(call, None):
                yield
        except asyncio.CancelledError:
            if not self._draining.is_set() or task.uncancel() > 0:
                raise
            raise _going_away() from None
        finally:
            self._streams.discard(task)


def _going_away() -> Unavailable:
    return Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "this server is going away: resume the stream")
