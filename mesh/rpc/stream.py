"""Ending an open stream from outside: its token died, the server drains, or somebody else needs the place."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mesh.errors import MeshError


class Stream:
    """An open stream, as long as the block of `endable` lasts."""

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self._task = task
        self.refusal: MeshError | None = None
        """Why it was ended from outside."""

    def end(self, refusal: MeshError) -> None:
        """Ends the stream with this refusal, in the way of `asyncio.timeout`: cancels the call's task. Only the first
        reason counts.
        """
        if self.refusal is None:
            self.refusal = refusal
            self._task.cancel()


@contextmanager
def endable() -> Iterator[Stream]:
    """Lets the stream that runs in this block be ended from outside."""
    task = asyncio.current_task()
    assert task is not None
    stream = Stream(task)
    try:
        yield stream
    except asyncio.CancelledError:
        # Another cancellation beside ours is the client's or the server's own, and goes on.
        if stream.refusal is None or task.uncancel() > 0:
            raise
        raise stream.refusal from None
