"""A handler that waits."""

import asyncio
from typing import Any

from tests.kit.calls import (
    CHANGE,
    FOUND,
)


class Gate:
    """Handlers wait here until it is opened."""

    def __init__(self) -> None:
        self.waiting = 0
        self.cancelled = 0
        self._arrived = asyncio.Condition()
        self._open = asyncio.Event()

    def open(self) -> None:
        self._open.set()

    async def arrived(self, number: int) -> None:
        async with asyncio.timeout(5), self._arrived:
            await self._arrived.wait_for(lambda: self.waiting >= number)

    async def _wait(self) -> None:
        async with self._arrived:
            self.waiting += 1
            self._arrived.notify_all()
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def lookup(self, _: object) -> object:
        await self._wait()
        return FOUND

    async def watch(self) -> Any:
        yield CHANGE
        await self._wait()
