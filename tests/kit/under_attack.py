"""Good calls beside an attack. Whatever a stranger sends, nobody else may lose a call by it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.kit.protocols import Answer

Ask = Callable[[], Awaitable[Answer]]
"""One good call, whose answer must be OK. It may raise."""


@dataclass
class GoodCalls:
    """What became of the good calls."""

    answered: int = 0
    slowest: float = 0.0
    """Seconds."""
    lost: list[str] = field(default_factory=list)
    """How each lost call ended."""


@asynccontextmanager
async def good_calls(
    *asks: Ask, at_once: int = 2, at_least: int = 20, within: float = 10.0
) -> AsyncIterator[GoodCalls]:
    """Makes good calls while its body attacks, and fails when one of them is lost.

    Args:
        asks: The good calls, each made again and again.
        at_once: How many of each are made at once.
        at_least: How many calls must have been answered before the attack begins, and again when it has ended: an
            attack that is over in a moment may leave its harm behind.
        within: Seconds that a call may take.

    Raises:
        AssertionError: calls were lost; the message says how.
    """
    calls = GoodCalls()

    over = asyncio.Event()

    async def keep_asking(ask: Ask) -> None:
        while not over.is_set():
            started = time.monotonic()
            try:
                async with asyncio.timeout(within):
                    answer = await ask()
                ended = " ".join((*answer.outcome, answer.message)).strip() or "OK"
            except Exception as error:  # noqa: BLE001 - however it ends, it is lost
                ended = f"{type(error).__name__}: {error}"
            calls.slowest = max(calls.slowest, time.monotonic() - started)
            if ended == "OK":
                calls.answered += 1
            else:
                calls.lost.append(ended)
            # Room for the attack on this one loop.
            await asyncio.sleep(0.005)

    async def answered(more: int) -> None:
        enough = calls.answered + more
        async with asyncio.timeout(more * within):
            while calls.answered < enough and not calls.lost:
                await asyncio.sleep(0.01)

    callers = [asyncio.create_task(keep_asking(ask)) for ask in asks for _ in range(at_once)]
    try:
        await answered(at_least)
        assert not calls.lost, f"good calls are lost before the attack: {calls.lost[:3]}"
        yield calls
        await answered(at_least)
    finally:
        # Calls are ended and not cut off: httpx loses its connection by that, and the next test its calls.
        over.set()
        await asyncio.gather(*callers)
    assert not calls.lost, (
        f"{len(calls.lost)} good calls lost, {calls.answered} answered: {sorted(set(calls.lost))[:3]}"
    )
