"""What a process does every so many seconds."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mesh.errors import MeshError
from mesh.runtime.backoff import Backoff
from mesh.runtime.interruption import Interruption
from mesh.runtime.part import Part


async def every(
    seconds: float,
    step: Callable[[], Awaitable[bool | None]],
    interruption: Interruption | None = None,
    *,
    survives: tuple[type[Exception], ...] = (MeshError,),
    longest: float | None = None,
) -> None:
    """Takes a step every so many seconds until it is cancelled.

    Args:
        seconds: Between the end of a step and the next one.
        step: Returns True when the next one should follow at once.
        interruption: Told of every step.
        survives: What a step may raise: what it needs is out of reach. Anything else ends the process.
        longest: How long the pause may grow, in seconds, while steps fail. It does not grow by default.
    """
    backoff = Backoff(2 * seconds, max(2 * seconds, longest or 0)) if longest else None
    while True:
        pause = seconds
        try:
            if await step():
                pause = 0
            if interruption:
                interruption.ended()
            if backoff:
                backoff.succeeded()
        except survives as error:
            if interruption:
                interruption.failed(error=error.reason if isinstance(error, MeshError) else type(error).__name__)
            pause = backoff.failed() if backoff else seconds
        await asyncio.sleep(pause)


class Periodic(Part):
    """A part that takes a step every `seconds`. When what it needs is out of reach it goes on, and says so once."""

    seconds: float
    """Between two steps."""
    longest: float | None = None
    """How long the pause may grow while steps fail."""
    survives: tuple[type[Exception], ...] = (MeshError,)
    """What a step may raise when something is out of reach."""
    log: Any
    """Where an interruption is logged."""

    async def step(self) -> bool | None:
        """Does it once. Returns True when there is more to do at once."""
        raise NotImplementedError

    async def run(self) -> None:
        """Takes steps until it is cancelled."""
        interruption = Interruption(self.log, f"{self.name} interrupted")
        await every(self.seconds, self.step, interruption, survives=self.survives, longest=self.longest)
