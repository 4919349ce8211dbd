"""Load from many coroutines, and what it cost the processes that bore it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.bench.report import cpu_seconds

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Borne:
    """One round."""

    calls: int
    seconds: float
    cpu: Sequence[float]
    """CPU seconds of each process."""

    @property
    def rate(self) -> float:
        """Calls a second by the clock."""
        return self.calls / self.seconds

    @property
    def microseconds(self) -> float:
        """CPU time a call, of all the processes."""
        return 1e6 * sum(self.cpu) / self.calls

    @property
    def per_core(self) -> float:
        """Calls that one core's second of CPU time is good for."""
        return self.calls / sum(self.cpu)


async def bear(callers: Sequence[Call], seconds: float, processes: Sequence[int]) -> Borne:
    """Lets each caller call over and over for that long. A call that fails ends the bench."""
    calls = 0
    end = time.perf_counter() + seconds

    async def repeat(call: Call) -> None:
        nonlocal calls
        while time.perf_counter() < end:
            await call()
            calls += 1

    before, started = [cpu_seconds(pid) for pid in processes], time.perf_counter()
    await asyncio.gather(*(repeat(call) for call in callers))
    return Borne(
        calls,
        time.perf_counter() - started,
        [cpu_seconds(pid) - then for pid, then in zip(processes, before, strict=True)],
    )
