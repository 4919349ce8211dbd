"""Delays grow, and a stranger's attempts are not the owner's problem."""

from datetime import UTC, datetime, timedelta

from services.auth.throttle import SIGN_IN, Attempts, Policy, admit, key, policies

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(free=3, first_delay=timedelta(seconds=1), longest_delay=timedelta(seconds=8), forget_after=timedelta(hours=1))
KEY = b"somebody"


def try_until(count: int, now: datetime = NOW, before: Attempts | None = None) -> Attempts | None:
    """The state after `count` admitted attempts, each as soon as it is allowed."""
    state = before
    for _ in range(count):
        now = max(now, state.blocked_until) if state and state.blocked_until else now
        admitted = admit({KEY: state}, {KEY: POLICY}, now)
        assert isinstance(admitted, dict)
        state = admitted[KEY]
    return state


def test_the_free_attempts_cost_nothing() -> None:
    state = try_until(2)
    assert state == Attempts(2, NOW, None)


def test_delays_double_up_to_the_longest() -> None:
    state, delays = try_until(3), []
    for _ in range(5):
        assert state
        assert state.blocked_until
        delays.append((state.blocked_until - state.last_time).total_seconds())
        state = try_until(1, before=state)
    assert delays == [1, 2, 4, 8, 8]


def test_an_attempt_that_comes_too_early_is_refused_and_does_not_prolong_the_delay() -> None:
    state = try_until(3)
    for _ in range(100):
        assert admit({KEY: state}, {KEY: POLICY}, NOW + timedelta(milliseconds=400)) == timedelta(milliseconds=600)
    assert isinstance(admit({KEY: state}, {KEY: POLICY}, NOW + timedelta(seconds=1)), dict)


def test_the_count_begins_anew_after_a_rest() -> None:
    admitted = admit({KEY: try_until(6)}, {KEY: POLICY}, NOW + timedelta(hours=2))
    assert admitted == {KEY: Attempts(1, NOW + timedelta(hours=2), None)}


def test_a_stranger_does_not_block_the_owner_who_comes_from_elsewhere() -> None:
    stranger = policies(SIGN_IN, "ada@example.com", "203.0.113.0/24", familiar=False)
    counted: dict[bytes, Attempts | None] = dict.fromkeys(stranger)
    for _ in range(30):
        admitted = admit(counted, stranger, NOW)
        if isinstance(admitted, dict):
            counted.update(admitted)
    assert isinstance(admit(counted, stranger, NOW), timedelta)
    owner = policies(SIGN_IN, "ada@example.com", "198.51.100.0/24", familiar=False)
    assert isinstance(admit({name: counted.get(name) for name in owner}, owner, NOW), dict)


def test_a_familiar_owner_is_not_slowed_by_a_thousand_strangers() -> None:
    by_address = key(SIGN_IN.name, "ada@example.com")
    counted: dict[bytes, Attempts | None] = {by_address: Attempts(1000, NOW, NOW + timedelta(seconds=30))}
    unfamiliar = policies(SIGN_IN, "ada@example.com", "198.51.100.0/24", familiar=False)
    assert admit({name: counted.get(name) for name in unfamiliar}, unfamiliar, NOW) == timedelta(seconds=30)
    familiar = policies(SIGN_IN, "ada@example.com", "198.51.100.0/24", familiar=True)
    assert isinstance(admit({name: counted.get(name) for name in familiar}, familiar, NOW), dict)


def test_parts_of_a_key_do_not_run_into_each_other() -> None:
    assert key("sign_in", "ab", "c") != key("sign_in", "a", "bc") != key("sign_ina", "b", "c")
