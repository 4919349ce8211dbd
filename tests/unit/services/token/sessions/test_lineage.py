"""The lineage's rules at their boundaries."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.token.sessions.lineage import Lineage, Presented, Verdict, judge

NOW = datetime(2026, 11, 24, tzinfo=UTC)
PHONE, LAPTOP = uuid.uuid4(), uuid.uuid4()
LIVE = Lineage("demo", PHONE, ["a", "b"], False, NOW + timedelta(days=14), None, 0, 0, False)
PRESENTED = Presented("demo", PHONE, frozenset(), frozenset("abcd"), timedelta(seconds=30), NOW)


def spent(seconds: float, **changes: object) -> Lineage:
    return replace(LIVE, rotate_time=NOW - timedelta(seconds=seconds), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("lineage", "presented", "verdict"), [
    (None, PRESENTED, Verdict.UNKNOWN),
    (LIVE, PRESENTED, Verdict.SPENDABLE),
    (LIVE, replace(PRESENTED, client_id="other"), Verdict.OTHER_CLIENT),
    (LIVE, replace(PRESENTED, instance_id=LAPTOP), Verdict.OTHER_INSTANCE),
    (LIVE, replace(PRESENTED, instance_id=None), Verdict.OTHER_INSTANCE),
    (replace(LIVE, instance_id=None), replace(PRESENTED, instance_id=LAPTOP), Verdict.SPENDABLE),
    (replace(LIVE, session_is_over=True), PRESENTED, Verdict.SESSION_OVER),
    (replace(LIVE, expire_time=NOW), PRESENTED, Verdict.EXPIRED),
    (LIVE, replace(PRESENTED, scopes=frozenset("abc")), Verdict.SCOPE_MISSING),
    (LIVE, replace(PRESENTED, scopes=frozenset("ab")), Verdict.SPENDABLE),
    (LIVE, replace(PRESENTED, scopes=frozenset("ab"), client_scopes=frozenset("a")), Verdict.SCOPE_MISSING),
    (None, replace(PRESENTED, scopes=frozenset("ab"), client_scopes=frozenset()), Verdict.UNKNOWN),
    (spent(0), PRESENTED, Verdict.RACE), (spent(2), PRESENTED, Verdict.RACE), (spent(-1), PRESENTED, Verdict.RACE),
    (spent(2.1), PRESENTED, Verdict.REPLAY), (spent(30), PRESENTED, Verdict.REPLAY), (spent(30.1), PRESENTED, Verdict.REUSE),
    (spent(10, instance_id=None), PRESENTED, Verdict.REPLAY), (spent(10.1, instance_id=None), PRESENTED, Verdict.REUSE),
    (spent(1, successor_is_spent=True), PRESENTED, Verdict.REUSE),
    (spent(5, replays=2), PRESENTED, Verdict.REPLAY), (spent(5, replays=3), PRESENTED, Verdict.REUSE), (spent(1, replays=3), PRESENTED, Verdict.RACE),
    (spent(5, replayed_ancestors=1), PRESENTED, Verdict.REPLAY), (spent(5, replayed_ancestors=2), PRESENTED, Verdict.REUSE),
    (spent(90), replace(PRESENTED, instance_id=LAPTOP), Verdict.OTHER_INSTANCE),
    (spent(90, expire_time=NOW), PRESENTED, Verdict.REUSE),
    (spent(90), replace(PRESENTED, scopes=frozenset("abc")), Verdict.REUSE),
    (spent(1), replace(PRESENTED, scopes=frozenset("abc")), Verdict.SCOPE_MISSING),
])  # fmt: skip
def test_a_token_is_judged(lineage: Lineage | None, presented: Presented, verdict: Verdict) -> None:
    assert judge(lineage, presented) is verdict


@given(
    st.floats(min_value=-5, max_value=100), st.integers(0, 5), st.integers(0, 5), st.booleans(), st.booleans(), st.sampled_from([PHONE, LAPTOP, None])
)
def test_only_the_same_installation_within_the_grace_is_ever_answered(
    seconds: float, replays: int, ancestors: int, successor_is_spent: bool, over: bool, instance: uuid.UUID | None
) -> None:
    lineage = spent(seconds, replays=replays, replayed_ancestors=ancestors, successor_is_spent=successor_is_spent, session_is_over=over)
    verdict = judge(lineage, replace(PRESENTED, instance_id=instance))
    if verdict in (Verdict.RACE, Verdict.REPLAY):
        assert instance == PHONE
        assert seconds <= 30
        assert not over
        assert not successor_is_spent
    if instance != PHONE or over:
        assert verdict is not Verdict.REUSE
