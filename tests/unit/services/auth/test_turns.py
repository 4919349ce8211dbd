"""Few callers at once, the rest in a fair queue, and the greedy shed first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from mesh.errors import Reason, ResourceExhausted
from services.auth.turns import Turns

HOME = "203.0.113.7"


class Callers:
    """Callers who keep their turn until they are let go, and who came out how."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.having: list[str] = []
        """Who has or had a turn, in order."""
        self.shed: list[str] = []
        self.refusals: list[ResourceExhausted] = []
        self._go = asyncio.Event()

    async def call(self, address: str) -> None:
        try:
            async with self.turns.take(address):
                self.having.append(address)
                await self._go.wait()
        except ResourceExhausted as refusal:
            self.shed.append(address)
            self.refusals.append(refusal)

    def go(self) -> None:
        """Lets go of whoever has a turn, or gets one."""
        self._go.set()


@asynccontextmanager
async def calling(turns: Turns, *addresses: str) -> AsyncIterator[Callers]:
    """Callers who call one after the other, at once. All have ended when the block has."""
    callers = Callers(turns)
    tasks = [asyncio.create_task(callers.call(address)) for address in addresses]
    await settled()
    try:
        yield callers
    finally:
        callers.go()
        await asyncio.gather(*tasks)


async def settled() -> None:
    """Until everybody who can go on has."""
    for _ in range(5):
        await asyncio.sleep(0)


async def is_free(turns: Turns) -> bool:
    """Whether somebody gets a turn at once."""
    async with calling(turns, "192.0.2.200") as callers:
        return bool(callers.having)


async def test_so_many_have_a_turn_at_once_and_the_next_when_one_ends() -> None:
    turns = Turns(at_once=2, waiting=10)
    async with calling(turns, *(f"10.0.{network}.1" for network in range(5))) as callers:
        assert len(callers.having) == 2
        callers.go()
        await settled()
        assert len(callers.having) == 5
    assert callers.shed == []


async def test_whoever_can_not_wait_is_shed_and_room_comes_back() -> None:
    turns = Turns(at_once=1, waiting=1)
    async with calling(turns, *[HOME] * 5) as callers:
        assert callers.shed == [HOME] * 3
        assert {(refusal.reason, refusal.retry_after) for refusal in callers.refusals} == {
            (Reason.OVERLOADED, timedelta(seconds=1))
        }
    assert await is_free(turns)


@pytest.mark.parametrize("waiting", [0, 1])
async def test_a_turn_ends_with_the_call_however_it_ends(waiting: int) -> None:
    turns = Turns(at_once=1, waiting=waiting)

    async def fail() -> None:
        async with turns.take(HOME):
            raise ValueError

    async def leave() -> None:
        async with turns.take(HOME):
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    for ending, error in ((fail, ValueError), (leave, asyncio.CancelledError)):
        with pytest.raises(error):
            await asyncio.create_task(ending())
        assert await is_free(turns)


async def leave_at(steps: int, turns: Turns) -> None:
    """Somebody who waits behind another, and leaves at a moment around the end of that one's turn."""
    callers = Callers(turns)
    first = asyncio.create_task(callers.call(HOME))
    await settled()
    leaving = asyncio.create_task(callers.call(HOME))
    await settled()
    callers.go()
    for _ in range(steps):
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(first, leaving, return_exceptions=True)


@pytest.mark.parametrize("steps", range(6))
async def test_whoever_leaves_while_waiting_takes_no_turn_along(steps: int) -> None:
    turns = Turns(at_once=1, waiting=1)
    await leave_at(steps, turns)
    assert await is_free(turns)


async def test_people_get_through_while_many_networks_each_below_its_limit_ask_for_more_than_there_is() -> None:
    """First come, first served would shed them all: 200 are there before them, and 20 may wait."""
    turns = Turns(at_once=1, waiting=20)
    attackers, people = [f"10.0.{network}.1" for network in range(100)], [f"192.0.{network}.1" for network in range(20)]
    for address in attackers:
        async with turns.take(address):
            pass
    async with calling(turns, *attackers, *attackers, *people) as callers:
        assert callers.having == [attackers[0]]
        assert len(callers.shed) == 199
        assert set(callers.shed) <= set(attackers)
    assert set(callers.having[1:]) == set(people)


async def test_a_network_that_asks_for_everything_leaves_the_others_theirs() -> None:
    turns = Turns(at_once=1, waiting=20)
    others = [f"192.0.2.{host}" for host in range(10)]
    async with calling(turns, *[HOME] * 100, *others) as callers:
        assert callers.shed == [HOME] * (100 - 1 - 10)
    assert set(others) <= set(callers.having)
