"""Places are shared: nobody takes them all, and a newcomer finds room."""

import asyncio

import pytest

from mesh.runtime.shares import FairQueue, Shares


def taken(shares: Shares, holder: str, part: float = 1) -> int:
    """How many places a greedy holder gets."""
    count = 0
    while shares.take(holder, part):
        count += 1
    return count


def test_one_greedy_holder_gets_its_part_and_no_more() -> None:
    assert taken(Shares(200), "a") == 100
    assert taken(Shares(150), "a", part=0.5) == 50


@pytest.mark.parametrize("greedy", [1, 5, 20, 100])
def test_however_many_are_greedy_a_newcomer_finds_room(greedy: int) -> None:
    shares = Shares(200)
    while sum(shares.take(f"{number}") for number in range(greedy)):
        pass
    assert shares.free >= 200 // (greedy + 1) - 1
    assert shares.take("newcomer")


def test_also_when_one_after_the_other_takes_what_there_is() -> None:
    shares = Shares(150)
    assert [taken(shares, f"{number}", part=0.25) for number in range(10)] == [30, 24, 20, 16, 12, 10, 8, 6, 5, 4]
    assert shares.free == 15


def test_who_has_none_gets_the_last_place_and_who_has_some_does_not() -> None:
    shares = Shares(2)
    assert shares.take("a")
    assert not shares.take("a")
    assert shares.take("b")
    assert not shares.take("c")
    shares.leave("a")
    assert shares.take("c")


def test_places_that_are_kept_for_others_are_not_there() -> None:
    shares = Shares(3)
    assert not shares.take("a", kept=3)
    assert shares.take("a", kept=2)


def test_nobody_in_particular_may_have_all() -> None:
    assert taken(Shares(7), "") == 7


def test_a_holder_who_left_is_forgotten() -> None:
    shares = Shares(4)
    for number in range(1_000):
        assert shares.take(f"{number}")
        shares.leave(f"{number}")
    assert (shares.free, len(shares.held)) == (4, 0)


async def test_a_place_that_becomes_free_goes_to_who_holds_the_fewest() -> None:
    queue, order = FairQueue(2), list[str]()

    async def use(holder: str, leave: asyncio.Event) -> None:
        await queue.enter(holder, 5)
        order.append(holder)
        await leave.wait()
        queue.leave(holder)

    first, rest = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.ensure_future(use("busy", first)), asyncio.ensure_future(use("other", rest))]
    await asyncio.sleep(0)
    tasks += [asyncio.ensure_future(use("other", rest)) for _ in range(5)]
    tasks.append(asyncio.ensure_future(use("newcomer", rest)))
    await asyncio.sleep(0)
    assert order == ["busy", "other"]
    first.set()
    while len(order) < 3:
        await asyncio.sleep(0)
    assert order[2] == "newcomer"
    rest.set()
    await asyncio.gather(*tasks)
    assert order[3:] == ["other"] * 5
    await queue.enter("busy", 5)


async def test_who_waits_too_long_or_leaves_the_queue_takes_no_place_with_them() -> None:
    queue = FairQueue(1)
    await queue.enter("a", 1)
    with pytest.raises(TimeoutError):
        await queue.enter("b", 0.01)
    gone = asyncio.ensure_future(queue.enter("c", 5))
    await asyncio.sleep(0)
    queue.leave("a")
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await queue.enter("d", 0.01)
