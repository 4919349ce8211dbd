"""Parts of a process: what works in the background, and what readiness depends on.

A process lists its parts once, in `mesh.rpc.server.serve`. A part that is listed has its task run, its readiness
reported as a subsystem of grpc.health, and is ended in its turn. One that was made and not listed stops the process at
boot, so no task can be forgotten.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self
from weakref import WeakSet

import structlog

END_SECONDS = 0.5
"""How long a cancelled part may take before it is cancelled again."""

_log = structlog.get_logger("authmesh.server")


_made: "WeakSet[Part]" = WeakSet()


class Part:
    """Something that runs for as long as its process. Subclasses have a name and `run`, and `ready` if it matters."""

    name: str
    """In logs, and of the subsystem in grpc.health: `signing_keys`. Unique in a process."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Remembers what was made, for `check`."""
        part = super().__new__(cls)
        _made.add(part)
        return part

    async def run(self) -> None:
        """Works until it is cancelled, or until nothing is left to do.

        An exception ends the process: the supervisor starts it again, which is better than a server with a dead part.
        """
        raise NotImplementedError

    @property
    def ready(self) -> bool | None:
        """Whether calls can be served as far as this part goes. None: readiness does not depend on it."""
        return None


def check(parts: Sequence[Part]) -> None:
    """Checks the list of a process's parts before anything starts.

    Raises:
        ValueError: two parts have one name, or a part was made that is not in the list: its task would never run.
    """
    names = [part.name for part in parts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"more than one part is called {', '.join(twice)}")
    if forgotten := sorted(f"{part.name} ({type(part).__name__})" for part in _made if part not in parts):
        raise ValueError(f"made, but not listed as a part of the process: {', '.join(forgotten)}")


@asynccontextmanager
async def running(parts: Sequence[Part], failed: Callable[[], None]) -> AsyncIterator[None]:
    """Runs parts for the length of a block: started in order, ended one by one in reverse.

    So a part can rely on those before it until its own end, to write down what it still has.

    Args:
        parts: In the order in which they start.
        failed: Called when one of them fails. The others go on until the block ends.

    Raises:
        BaseExceptionGroup: parts failed. Raised at the end of the block.
    """
    tasks: list[asyncio.Task[None]] = []
    ending = False

    def note(task: asyncio.Task[None]) -> None:
        if not ending and (task.cancelled() or task.exception()):
            error = None if task.cancelled() else type(task.exception()).__name__
            _log.error("part failed", part=task.get_name(), error=error or "CancelledError")
            failed()

    for part in parts:
        task = asyncio.create_task(part.run(), name=part.name)
        task.add_done_callback(note)
        tasks.append(task)
    try:
        yield
    finally:
        # Those that failed before this, and those that fail as they end.
        ending = True
        errors = [error for task in reversed(tasks) if (error := await _end(task))]
        if errors:
            raise BaseExceptionGroup("parts of the process failed", errors)


async def _end(task: asyncio.Task[None]) -> BaseException | None:
    """Cancels a task until it has ended.

    Once is not enough: before Python 3.12 `asyncio.wait_for`, which redis-py uses, may swallow it.

    Returns:
        Why it failed, if it did.
    """
    asked = not task.done()
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=END_SECONDS)
    if task.cancelled():
        return None if asked else RuntimeError(f"{task.get_name()} was cancelled from within")
    return task.exception()
