"""A person who was deleted has no session, no token and nothing personal in Token's tables, for good."""

import pytest

from mesh.audit import subject_keys
from mesh.errors import MeshError, Unauthenticated
from mesh.ids import uuid7
from tests.integration.services.token.conftest import Token


async def test_sessions_end_and_say_nothing_of_the_person(token: Token) -> None:
    subject = uuid7()
    sessions = [await token.sign_in(subject) for _ in range(2)]
    other = await token.sign_in()
    await token.sign_outs.end_session(subject, sessions[0].grant.session_id)
    await token.subjects.delete(subject)
    assert await token.refuses(sessions[1])
    assert not await token.refuses(other)
    with pytest.raises(Unauthenticated):
        await token.refresh(sessions[1].refresh_token)
    rows = await token.database.fetch("SELECT * FROM sessions WHERE subject = $1", subject)
    assert {(row["display_name"], row["address"], row["user_agent"]) for row in rows} == {("", "", "")}
    kept = await token.database.fetchrow("SELECT * FROM sessions WHERE subject = $1", other.grant.subject)
    assert kept is not None
    assert kept["display_name"] == "Ada's phone"
    name = f"users/{subject}"
    assert (await subject_keys.held(token.database, [name]))[name] is None


async def test_what_comes_late_of_user_or_auth_gives_no_session(token: Token) -> None:
    subject = uuid7()
    await token.subjects.set_grants(subject, ["admin"], False, 3)
    for _ in range(2):
        await token.subjects.delete(subject)
    await token.subjects.set_grants(subject, ["admin"], False, 4)
    with pytest.raises(MeshError):
        await token.sign_in(subject)
    events = await token.database.fetch("SELECT payload FROM outbox WHERE destination = 'token.subject_revoked'")
    assert len(events) == 1
