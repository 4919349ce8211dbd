"""Parts of a process: none is forgotten, one that fails is told of, and they end in turn."""

import asyncio
from weakref import WeakSet

import pytest

from mesh.runtime import part
from mesh.runtime.part import Part


class Noting(Part):
    """Notes its start and its end."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name = name
        self._seen = seen

    async def run(self) -> None:
        self._seen.append(f"+{self.name}")
        try:
            await asyncio.Event().wait()
        finally:
            self._seen.append(f"-{self.name}")


class Broken(Part):
    """Fails."""

    name = "broken"

    async def run(self) -> None:
        raise KeyError


async def test_parts_start_in_order_and_end_in_reverse() -> None:
    seen: list[str] = []
    async with part.running([Noting("a", seen), Noting("b", seen)], failed=pytest.fail):
        await asyncio.sleep(0)
    assert seen == ["+a", "+b", "-b", "-a"]


async def test_one_that_fails_is_told_of_and_the_others_go_on() -> None:
    seen: list[str] = []
    failed = asyncio.Event()
    with pytest.raises(BaseExceptionGroup) as raised:
        async with part.running([Broken(), Noting("other", seen)], failed=failed.set):
            await asyncio.wait_for(failed.wait(), 5)
            assert seen == ["+other"]
    assert [type(error) for error in raised.value.exceptions] == [KeyError]
    assert seen == ["+other", "-other"]


def test_a_part_that_was_made_and_is_not_listed_stops_the_process_before_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A process of its own: the other tests of this one have parts of theirs.
    monkeypatch.setattr(part, "_made", WeakSet())
    listed, forgotten = Noting("listed", []), Noting("forgotten", [])
    with pytest.raises(ValueError, match=r"forgotten \(Noting\)"):
        part.check([listed])
    part.check([listed, forgotten])


def test_two_parts_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="more than one part is called same"):
        part.check([Noting("same", []), Noting("same", [])])
