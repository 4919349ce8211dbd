"""What is done every so many seconds goes on when what it needs is away, and ends at a fault."""

import asyncio
from contextlib import suppress

import pytest

from mesh.errors import Reason, Unavailable
from mesh.runtime.interruption import Interruption
from mesh.runtime.periodic import every


class Script:
    """Steps that do what a list says, and then wait."""

    def __init__(self, *outcomes: bool | Exception) -> None:
        self.outcomes = list(outcomes)
        self.done = asyncio.Event()

    async def step(self) -> bool:
        if not self.outcomes:
            self.done.set()
            await asyncio.Event().wait()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Told(Interruption):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def failed(self, **facts: object) -> None:
        self.told.append(facts)

    def ended(self) -> None:
        self.told.append("ended")


async def run(script: Script, told: Told, seconds: float) -> None:
    task = asyncio.create_task(every(seconds, script.step, told))
    done = asyncio.create_task(script.done.wait())
    await asyncio.wait({task, done}, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    done.cancel()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_an_outage_is_survived_and_told() -> None:
    script, told = Script(False, Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "away"), False), Told()
    await run(script, told, 0.001)
    assert told.told == ["ended", {"error": "DEPENDENCY_UNAVAILABLE"}, "ended"]


async def test_what_has_more_to_do_does_it_at_once() -> None:
    script = Script(True, True, True)
    await run(script, Told(), 60)
    assert script.done.is_set()


async def test_a_fault_ends_it() -> None:
    script = Script(KeyError("broken"))
    with pytest.raises(KeyError):
        await run(script, Told(), 60)
