"""Waiting for something to become true, instead of for time to pass."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Returns when the condition holds.

    Raises:
        TimeoutError: it did not within that time.
    """
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)
