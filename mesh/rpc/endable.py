"""Ending a call from outside: its time is up, its token died, the server drains, or another needs its place."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mesh.errors import MeshError


class Endable:
    """A block that can be ended from outside while it runs, in the way of `asyncio.timeout`.

    Entered by the call's own task. A class, since a context manager made of a generator costs three times as much, and
    every call enters one.
    """

    __slots__ = ("_task", "_timer", "refusal")

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self.refusal: MeshError | None = None
        """Why it was ended from outside."""

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        return self

    def end(self, refusal: MeshError) -> None:
        """Ends the block with this refusal: cancels the task. Only the first reason counts."""
        if self.refusal is None:
            self.refusal = refusal
            self._task.cancel()

    def end_after(self, seconds: float, refuse: Callable[[], MeshError]) -> None:
        """Ends the block with what `refuse` says, unless it has ended before."""
        self._timer = asyncio.get_running_loop().call_later(seconds, lambda: self.end(refuse()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Another cancellation beside ours is the client's or the server's own, and goes on.
        if kind is asyncio.CancelledError and self.refusal is not None and self._task.uncancel() <= 0:
            raise self.refusal from None
