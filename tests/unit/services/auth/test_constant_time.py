"""Refusals and successes leave at the same time."""

import pytest

from mesh.errors import Reason, Unauthenticated
from services.auth.constant_time import ConstantTime


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("work", [0.0, 0.1, 0.249])
async def test_quick_work_waits(work: float) -> None:
    clock = Clock()
    async with ConstantTime(0.25, clock=clock, sleep=clock.sleep).pad():
        clock.now += work
    assert clock.now == pytest.approx(100.25)


async def test_a_refusal_waits_too() -> None:
    clock = Clock()
    with pytest.raises(Unauthenticated):
        async with ConstantTime(0.25, clock=clock, sleep=clock.sleep).pad(success=False):
            raise Unauthenticated(Reason.CREDENTIALS_INVALID, "no")
    assert clock.now == pytest.approx(100.25)


async def test_a_success_that_tells_nothing_new_need_not_wait() -> None:
    clock = Clock()
    async with ConstantTime(0.25, clock=clock, sleep=clock.sleep).pad(success=False):
        clock.now += 0.1
    assert clock.now == pytest.approx(100.1)


@pytest.mark.parametrize(("work", "answered"), [(0.25, 0.25), (0.26, 0.5), (0.49, 0.5), (1.0, 1.0), (1.01, 1.25)])
async def test_slow_work_is_levelled_too(work: float, answered: float) -> None:
    clock = Clock()
    async with ConstantTime(0.25, clock=clock, sleep=clock.sleep).pad():
        clock.now += work
    assert clock.now == pytest.approx(100 + answered)


async def test_a_step_of_nothing_levels_nothing() -> None:
    clock = Clock()
    async with ConstantTime(0, clock=clock, sleep=clock.sleep).pad():
        clock.now += 0.1
    assert clock.now == pytest.approx(100.1)
