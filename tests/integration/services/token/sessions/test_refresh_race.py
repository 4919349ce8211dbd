"""Many callers with one refresh token at the same moment, over as many connections: never two successors, never a
thief."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import pytest

from mesh.errors import MeshError, Reason
from mesh.storage.database import Database
from services.token.sessions.sign_in import Issued
from tests.integration.services.token.conftest import Token, assemble

CONNECTIONS = 24


@pytest.fixture
async def wide_token(new_database_url: Callable[[str], Awaitable[str]]) -> Any:
    """Token with more connections than usual, so that callers do meet in the database."""
    async with Database.open(await new_database_url("services.token"), size=CONNECTIONS) as database:
        await asyncio.gather(*(database.fetchval("SELECT pg_sleep(0.05)") for _ in range(CONNECTIONS)))
        yield await assemble(database)


async def at_once(calls: Sequence[Callable[[], Coroutine[Any, Any, Any]]]) -> list[Any]:
    """Lets every call begin behind one barrier. Refusals are among the answers."""
    barrier = asyncio.Barrier(len(calls))

    async def behind(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        await barrier.wait()
        try:
            return await call()
        except MeshError as error:
            return error

    return await asyncio.gather(*(behind(call) for call in calls))


@pytest.mark.parametrize("callers", [2, 3, 8, 24, 100])
async def test_concurrent_callers_all_get_the_one_successor(wide_token: Token, callers: int) -> None:
    current = await wide_token.sign_in()
    for _ in range(5):
        answers = await at_once([partial(wide_token.refresh, current.refresh_token)] * callers)
        issued = [answer for answer in answers if isinstance(answer, Issued)]
        assert len(issued) == callers
        assert len({answer.refresh_token for answer in issued}) == 1
        assert len({answer.grant for answer in issued}) == 1
        current = issued[0]
    # One line: every token but the last is spent, and none has a sibling.
    rows = await wide_token.database.fetch("SELECT rotate_time IS NULL AS unspent FROM refresh_tokens")
    assert len(rows) == 6
    assert sum(row["unspent"] for row in rows) == 1
    assert len(await wide_token.events("token.refreshed")) == 5
    assert not await wide_token.events("token.reuse_detected")
    assert not await wide_token.events("token.grace_replay")


async def test_late_repetitions_at_the_same_moment_are_counted_one_by_one(wide_token: Token) -> None:
    phone = uuid.uuid4()
    first = await wide_token.sign_in(instance=phone)
    await wide_token.refresh(first.refresh_token, instance=phone)
    wide_token.clock.pass_by(seconds=5)
    answers = await at_once([partial(wide_token.refresh, first.refresh_token, instance=phone)] * 10)
    issued = [answer for answer in answers if isinstance(answer, Issued)]
    refused = [answer.reason for answer in answers if isinstance(answer, MeshError)]
    assert len(issued) == 3
    assert set(refused) <= {Reason.REFRESH_REUSED, Reason.REFRESH_INVALID}
    assert len(await wide_token.events("token.grace_replay")) == 3
    assert len(await wide_token.events("token.reuse_detected")) == 1


async def test_a_sign_out_and_refreshes_at_the_same_moment_leave_no_living_token(wide_token: Token) -> None:
    for _ in range(10):
        first = await wide_token.sign_in()
        refresh = partial(wide_token.refresh, first.refresh_token)
        sign_out = partial(wide_token.sign_outs.revoke_token, first.refresh_token)
        answers = await at_once([refresh, refresh, sign_out, refresh, refresh])
        for answer in answers:
            if isinstance(answer, Issued):
                assert await wide_token.refuses(answer)
                with pytest.raises(MeshError):
                    await wide_token.refresh(answer.refresh_token)
            elif isinstance(answer, MeshError):
                assert answer.reason is Reason.REFRESH_INVALID


async def test_a_disabled_user_and_refreshes_at_the_same_moment_leave_no_living_token(wide_token: Token) -> None:
    for _ in range(10):
        first = await wide_token.sign_in()
        refresh = partial(wide_token.refresh, first.refresh_token)
        disable = partial(wide_token.subjects.set_grants, first.grant.subject, (), disabled=True, version=1)
        for answer in await at_once([refresh, disable, refresh, refresh]):
            if isinstance(answer, Issued):
                assert await wide_token.refuses(answer)


async def test_a_role_change_and_a_refresh_at_the_same_moment_leave_no_token_with_the_old_roles(
    wide_token: Token,
) -> None:
    for version in range(1, 11):
        first = await wide_token.sign_in()
        refresh = partial(wide_token.refresh, first.refresh_token)
        promote = partial(
            wide_token.subjects.set_grants, first.grant.subject, ("admin",), disabled=False, version=version
        )
        for answer in await at_once([refresh, promote]):
            if isinstance(answer, Issued):
                old = "admin" not in answer.grant.roles
                assert await wide_token.refuses(answer) is old


async def test_sign_ins_at_the_same_moment_keep_the_session_limit(wide_token: Token) -> None:
    wide_token.clients["demo"] = wide_token.clients["demo"].model_copy(update={"session_limit": 3})
    subject = uuid.uuid4()
    answers = await at_once([partial(wide_token.sign_in, subject)] * 12)
    assert all(isinstance(answer, Issued) for answer in answers)
    assert len(await wide_token.sign_outs.live_sessions(subject, None, 100)) == 3
    await wide_token.learn_revocations()
    living = [
        answer
        for answer in answers
        if isinstance(answer, Issued) and not wide_token.revocations.refuses(wide_token.claims(answer))
    ]
    assert len(living) == 3
