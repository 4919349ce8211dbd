"""Keeps the processes of the mesh running, and stops them in the reverse of the order in which they were started."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from mesh.local.child import Child, last_words
from mesh.local.journal import Journal
from mesh.local.process import Program
from mesh.operator.errors import OperatorError
from mesh.operator.status import Health

START_TIMEOUT = 60.0
"""Seconds that a program may take to become healthy before the start is given up."""


class Supervisor:
    """The process table. `changed` is called, in the event loop, whenever a row of it changed."""

    def __init__(self, journal: Path, changed: Callable[[], None] = lambda: None) -> None:
        self._journal = Journal(journal)
        self._changed = changed
        self._stages: list[list[Child]] = []

    @property
    def children(self) -> list[Child]:
        """All processes, in start order."""
        return [child for stage in self._stages for child in stage]

    def start(self, programs: Sequence[Program]) -> list[Child]:
        """Starts programs that may start, and later be stopped, at the same time: one stage."""
        stage = [Child(program, self._journal, self._changed) for program in programs]
        self._stages.append(stage)
        for child in stage:
            child.start()
        self._changed()
        return list(stage)

    async def healthy(self, children: Sequence[Child], timeout: float = START_TIMEOUT) -> None:
        """Returns when all of them have been healthy.

        Raises:
            OperatorError: one ended again and again, or `timeout` seconds passed.
        """
        waiting = {asyncio.create_task(child.settled.wait()): child for child in children}
        try:
            async with asyncio.timeout(timeout):
                while waiting:
                    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        child = waiting.pop(task)
                        if child.failure:
                            raise OperatorError(child.failure)
        except TimeoutError:
            child = next(iter(waiting.values()))
            lacks = f" (it waits for {', '.join(child.lacks)})" if child.lacks else ""
            raise OperatorError(
                f"{child.program.name} was not healthy after {timeout:.0f} s{lacks}: {last_words(child.program)}"
            ) from None
        finally:
            for task in waiting:
                task.cancel()

    async def stop(self) -> None:
        """Stops everything, latest stage first; the processes of a stage together."""
        while self._stages:
            await asyncio.gather(*(child.stop() for child in self._stages[-1]))
            self._stages.pop()
            self._changed()

    @property
    def all_healthy(self) -> bool:
        """Whether every process is healthy now."""
        return all(child.health is Health.HEALTHY for child in self.children)


@asynccontextmanager
async def supervised(program: Program, journal: Path) -> AsyncIterator[Child]:
    """Runs one program for the length of a block, from healthy to gone.

    First ends what a killed earlier run of the same journal left.

    Raises:
        OperatorError: it does not become healthy.
    """
    Journal(journal).end_leftovers()
    supervisor = Supervisor(journal)
    try:
        stage = supervisor.start([program])
        await supervisor.healthy(stage)
        yield stage[0]
    finally:
        await supervisor.stop()
