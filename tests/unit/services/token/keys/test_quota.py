"""A process's share of KMS's quota."""

from datetime import timedelta

import pytest

from mesh.errors import Reason, Unavailable
from services.token.keys.kms import SignQuota


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def granted(quota: SignQuota, asked: int) -> int:
    count = 0
    for _ in range(asked):
        try:
            quota.take()
        except Unavailable:
            break
        count += 1
    return count


def test_what_is_above_the_share_is_refused_at_once_with_the_time_to_wait() -> None:
    clock = Seconds()
    quota = SignQuota(10, clock=clock)
    assert granted(quota, 100) == 10
    with pytest.raises(Unavailable) as caught:
        quota.take()
    assert caught.value.reason is Reason.KEYS_UNAVAILABLE
    assert caught.value.retry_after == timedelta(seconds=0.1)
    clock.now += 0.5
    assert granted(quota, 100) == 5


def test_idle_time_saves_no_more_than_a_second_s_worth() -> None:
    clock = Seconds()
    quota = SignQuota(10, clock=clock)
    clock.now += 3600
    assert granted(quota, 100) == 10


def test_after_a_throttling_answer_nothing_is_asked_for_a_second() -> None:
    clock = Seconds()
    quota = SignQuota(10, clock=clock)
    quota.take()
    quota.give_up()
    clock.now += 0.9
    assert granted(quota, 1) == 0
    clock.now += 0.11
    assert granted(quota, 1) == 1
