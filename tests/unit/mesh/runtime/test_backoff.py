"""Pauses grow, and differ."""

from mesh.runtime.backoff import Backoff


def test_pauses_double_up_to_the_longest_and_are_a_random_part_of_it() -> None:
    backoff = Backoff(1, 10)
    for most in (1, 2, 4, 8, 10, 10):
        assert most / 2 <= backoff.failed() <= most
    assert backoff.failures == 6
    assert len({Backoff(1, 10).failed() for _ in range(20)}) > 10


def test_a_success_begins_anew() -> None:
    backoff = Backoff(1, 10)
    for _ in range(1000):
        assert backoff.failed() <= 10
    backoff.succeeded()
    assert backoff.failed() <= 1
