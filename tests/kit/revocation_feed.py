"""A process that follows the revocation feed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from mesh.errors import Reason, Unavailable
from mesh.tokens.feed import RevocationFeed
from mesh.tokens.revocations import RevocationSet, Snapshot
from services.token.revocation.log import RevocationLog
from services.token.revocation.publisher import Publisher
from tests.integration.services.token.conftest import Clock

PATIENCE = 10.0


async def eventually(condition: Callable[[], bool]) -> None:
    """Waits until it holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(*parts: Publisher | RevocationFeed) -> AsyncIterator[None]:
    """Runs the parts' tasks for the length of a block."""
    tasks = [asyncio.create_task(part.run()) for part in parts]
    try:
        yield
    finally:
        # Again and again: see `mesh.rpc.server`.
        while pending := [task for task in tasks if not task.done()]:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending, timeout=0.2)


class Consumer:
    """What a process of the mesh has."""

    def __init__(self, url: str, log: RevocationLog) -> None:
        self.log = log
        self.snapshots = 0
        self.known = RevocationSet()
        self.feed = RevocationFeed(url, self.load, self.known)
        self.reachable = True

    async def load(self) -> AsyncGenerator[Snapshot]:
        if not self.reachable:
            raise Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "test")
        self.snapshots += 1
        async with aclosing(self.log.snapshot(Clock()())) as pieces:
            async for piece in pieces:
                yield piece

    def knows(self, *sequences: int) -> bool:
        return self.feed.sequence >= max(sequences)
