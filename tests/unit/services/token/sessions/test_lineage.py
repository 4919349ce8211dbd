"""The lineage's rules at their boundaries."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.token.sessions.lineage import Lineage, RefreshAttempt, RefreshOutcome, evaluate

NOW = datetime(2026, 11, 24, tzinfo=UTC)
PHONE, LAPTOP = uuid.uuid4(), uuid.uuid4()
LIVE = Lineage("demo", PHONE, ["a", "b"], False, NOW + timedelta(days=14), None, 0, 0, False)
PRESENTED = RefreshAttempt("demo", PHONE, frozenset(), frozenset("abcd"), timedelta(seconds=30), NOW)


def spent(seconds: float, **changes: object) -> Lineage:
    return replace(LIVE, rotate_time=NOW - timedelta(seconds=seconds), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("lineage", "presented", "verdict"), [
    (None, PRESENTED, RefreshOutcome.UNKNOWN),
    (LIVE, PRESENTED, RefreshOutcome.SPENDABLE),
    (LIVE, replace(PRESENTED, client_id="other"), RefreshOutcome.OTHER_CLIENT),
    (LIVE, replace(PRESENTED, instance_id=LAPTOP), RefreshOutcome.OTHER_INSTANCE),
    (LIVE, replace(PRESENTED, instance_id=None), RefreshOutcome.OTHER_INSTANCE),
    (replace(LIVE, instance_id=None), replace(PRESENTED, instance_id=LAPTOP), RefreshOutcome.SPENDABLE),
    (replace(LIVE, session_is_over=True), PRESENTED, RefreshOutcome.SESSION_OVER),
    (replace(LIVE, expire_time=NOW), PRESENTED, RefreshOutcome.EXPIRED),
    (LIVE, replace(PRESENTED, scopes=frozenset("abc")), RefreshOutcome.SCOPE_MISSING),
    (LIVE, replace(PRESENTED, scopes=frozenset("ab")), RefreshOutcome.SPENDABLE),
    (LIVE, replace(PRESENTED, scopes=frozenset("ab"), client_scopes=frozenset("a")), RefreshOutcome.SCOPE_MISSING),
    (None, replace(PRESENTED, scopes=frozenset("ab"), client_scopes=frozenset()), RefreshOutcome.UNKNOWN),
    (spent(0), PRESENTED, RefreshOutcome.RACE), (spent(2), PRESENTED, RefreshOutcome.RACE),
    (spent(-1), PRESENTED, RefreshOutcome.RACE),
    (spent(2.1), PRESENTED, RefreshOutcome.REPLAY), (spent(30), PRESENTED, RefreshOutcome.REPLAY),
    (spent(30.1), PRESENTED, RefreshOutcome.REUSE),
    (spent(10, instance_id=None), PRESENTED, RefreshOutcome.REPLAY),
    (spent(10.1, instance_id=None), PRESENTED, RefreshOutcome.REUSE),
    (spent(1, successor_is_spent=True), PRESENTED, RefreshOutcome.REUSE),
    (spent(5, replays=2), PRESENTED, RefreshOutcome.REPLAY), (spent(5, replays=3), PRESENTED, RefreshOutcome.REUSE),
    (spent(1, replays=3), PRESENTED, RefreshOutcome.RACE),
    (spent(5, replayed_ancestors=1), PRESENTED, RefreshOutcome.REPLAY),
    (spent(5, replayed_ancestors=2), PRESENTED, RefreshOutcome.REUSE),
    (spent(90), replace(PRESENTED, instance_id=LAPTOP), RefreshOutcome.OTHER_INSTANCE),
    (spent(90, expire_time=NOW), PRESENTED, RefreshOutcome.REUSE),
    (spent(90), replace(PRESENTED, scopes=frozenset("abc")), RefreshOutcome.REUSE),
    (spent(1), replace(PRESENTED, scopes=frozenset("abc")), RefreshOutcome.SCOPE_MISSING),
])  # fmt: skip
def test_a_token_is_judged(lineage: Lineage | None, presented: RefreshAttempt, verdict: RefreshOutcome) -> None:
    assert evaluate(lineage, presented) is verdict


@given(
    st.floats(min_value=-5, max_value=100),
    st.integers(0, 5),
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
    st.sampled_from([PHONE, LAPTOP, None]),
)
def test_only_the_same_installation_within_the_grace_is_ever_answered(
    seconds: float, replays: int, ancestors: int, successor_is_spent: bool, over: bool, instance: uuid.UUID | None
) -> None:
    lineage = spent(
        seconds,
        replays=replays,
        replayed_ancestors=ancestors,
        successor_is_spent=successor_is_spent,
        session_is_over=over,
    )
    verdict = evaluate(lineage, replace(PRESENTED, instance_id=instance))
    if verdict in (RefreshOutcome.RACE, RefreshOutcome.REPLAY):
        assert instance == PHONE
        assert seconds <= 30
        assert not over
        assert not successor_is_spent
    if instance != PHONE or over:
        assert verdict is not RefreshOutcome.REUSE
