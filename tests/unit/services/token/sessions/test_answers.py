"""What a client is told of its tokens."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from services.token.keys.access_token import ClientGrant
from services.token.sessions.answers import client_token_set

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(("since", "left"), [(0.0, 600.0), (29.5, 570.5), (601.0, 0.0)])
def test_the_time_left_is_told_as_it_is_when_the_answer_is_made(since: float, left: float) -> None:
    grant = ClientGrant(
        client_id="backend",
        scopes=frozenset(),
        token_id=uuid.uuid4(),
        issue_time=NOW,
        expire_time=NOW + timedelta(minutes=10),
    )
    answer = client_token_set("token", grant, NOW + timedelta(seconds=since))
    assert answer.expires_in.ToTimedelta() == timedelta(seconds=left)
    assert answer.expire_time.ToDatetime(UTC) == grant.expire_time
