"""Sign-ins and refreshes while tokens can't be signed.

A refresh that was committed is answered later, and the client's honest retry is never theft, however long the signer
was away. A sign-in leaves nothing behind.
"""

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable

import pytest

from mesh.errors import InvalidArgument, MeshError, Reason, Unauthenticated, Unavailable
from services.token.keys.signer import Signer
from tests.conftest import OpenDatabase
from tests.integration.services.token.conftest import Token, assemble
from tests.kit.signing import OneKey

ALICE, PHONE = uuid.uuid4(), uuid.uuid4()


class Outage(OneKey):
    """A key that is out of reach, or answers too late, when the test says so."""

    down = False
    slow = False
    meanwhile: Callable[[], Awaitable[None]] | None = None
    """What happens while it signs."""

    async def active(self) -> Signer:
        if self.meanwhile:
            await self.meanwhile()
        if self.down:
            raise Unavailable(Reason.KEYS_UNAVAILABLE, "tokens can't be signed now")
        if self.slow:
            await asyncio.sleep(60)
        return self.signer


@pytest.fixture
def signing() -> Outage:
    return Outage()


@pytest.fixture
async def token(open_database: OpenDatabase, signing: Outage) -> Token:
    return await assemble(await open_database("services.token"), signing.key, signing)


async def refusal(token: Token, refresh_token: str, instance: uuid.UUID | None = PHONE) -> Reason:
    with pytest.raises(MeshError) as caught:
        await token.refresh(refresh_token, instance=instance)
    return caught.value.reason


async def test_the_grace_lasts_until_it_was_answered_once_and_then_as_ever(token: Token, signing: Outage) -> None:
    first = await token.sign_in(instance=PHONE)
    signing.down = True
    assert await refusal(token, first.refresh_token) is Reason.KEYS_UNAVAILABLE
    # As often and as long as the outage has it.
    for _ in range(10):
        token.clock.pass_by(minutes=5)
        assert await refusal(token, first.refresh_token) is Reason.KEYS_UNAVAILABLE
    signing.down = False
    second = await token.refresh(first.refresh_token, instance=PHONE)
    # The ordinary grace begins with the answer.
    token.clock.pass_by(seconds=29)
    again = await token.refresh(first.refresh_token, instance=PHONE)
    assert again.refresh_token == second.refresh_token
    third = await token.refresh(second.refresh_token, instance=PHONE)
    assert third.refresh_token != second.refresh_token
    types = [event.type for event in await token.events()]
    assert types == ["token.issued", "token.refreshed", "token.grace_replay", "token.refreshed"]


async def test_after_the_answer_a_replay_is_reuse_again(token: Token, signing: Outage) -> None:
    first = await token.sign_in(instance=PHONE)
    signing.down = True
    assert await refusal(token, first.refresh_token) is Reason.KEYS_UNAVAILABLE
    signing.down = False
    token.clock.pass_by(hours=1)
    await token.refresh(first.refresh_token, instance=PHONE)
    token.clock.pass_by(seconds=31)
    assert await refusal(token, first.refresh_token) is Reason.REFRESH_REUSED


async def test_a_spent_successor_makes_it_a_grandparent_whatever_is_owed(token: Token, signing: Outage) -> None:
    first = await token.sign_in(instance=PHONE)
    second = await token.refresh(first.refresh_token, instance=PHONE)
    signing.down = True
    assert await refusal(token, first.refresh_token) is Reason.KEYS_UNAVAILABLE
    signing.down = False
    await token.refresh(second.refresh_token, instance=PHONE)
    assert await refusal(token, first.refresh_token) is Reason.REFRESH_REUSED


async def test_it_is_owed_to_the_same_installation_of_a_living_session_only(token: Token, signing: Outage) -> None:
    first = await token.sign_in(instance=PHONE)
    signing.down = True
    assert await refusal(token, first.refresh_token) is Reason.KEYS_UNAVAILABLE
    signing.down = False
    assert await refusal(token, first.refresh_token, uuid.uuid4()) is Reason.REFRESH_INVALID
    other = await token.sign_in(instance=PHONE)
    signing.down = True
    assert await refusal(token, other.refresh_token) is Reason.KEYS_UNAVAILABLE
    signing.down = False
    await token.sign_outs.end_session(other.grant.subject, other.grant.session_id)
    assert await refusal(token, other.refresh_token) is Reason.REFRESH_INVALID


async def test_a_deadline_that_cuts_the_signature_short_owes_the_answer_too(token: Token, signing: Outage) -> None:
    first = await token.sign_in(instance=PHONE)
    signing.slow = True
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await token.refresh(first.refresh_token, instance=PHONE)
    signing.slow = False
    token.clock.pass_by(hours=1)
    await token.refresh(first.refresh_token, instance=PHONE)


async def test_two_retries_at_once_get_the_same_successor(token: Token, signing: Outage) -> None:
    first = await token.sign_in(instance=PHONE)
    signing.down = True
    assert await refusal(token, first.refresh_token) is Reason.KEYS_UNAVAILABLE
    signing.down = False
    token.clock.pass_by(hours=1)
    answers = await asyncio.gather(*(token.refresh(first.refresh_token, instance=PHONE) for _ in range(8)))
    assert len({answer.refresh_token for answer in answers}) == 1
    await token.refresh(answers[0].refresh_token, instance=PHONE)


@pytest.mark.parametrize("fault", ["down", "slow"])
async def test_a_sign_in_that_cannot_be_signed_ends_nobodys_session_and_leaves_nothing(
    token: Token, signing: Outage, fault: str
) -> None:
    token.clients["demo"] = token.clients["demo"].model_copy(update={"session_limit": 1})
    living = await token.sign_in(ALICE)
    setattr(signing, fault, True)
    with pytest.raises((Unavailable, TimeoutError)):
        async with asyncio.timeout(0.3):
            await token.sign_in(ALICE)
    setattr(signing, fault, False)
    assert [session.id for session in await token.sign_outs.live_sessions(ALICE, None, 10)] == [living.grant.session_id]
    assert not await token.refuses(living)
    assert [event.type for event in await token.events()] == ["token.issued"]
    assert await token.database.fetchval("SELECT count(*) FROM refresh_tokens") == 1
    await token.sign_in(ALICE)
    assert await token.refuses(living)


async def test_what_changes_while_a_sign_in_is_signed_decides_it_anew(token: Token, signing: Outage) -> None:
    async def promote() -> None:
        signing.meanwhile = None
        await token.subjects.set_grants(ALICE, ["admin"], disabled=False, version=1)

    signing.meanwhile = promote
    issued = await token.sign_in(ALICE)
    assert token.claims(issued).roles == {"admin"}
    assert not await token.refuses(issued)
    assert await token.database.fetchval("SELECT count(*) FROM sessions") == 1


@pytest.mark.parametrize("change", ["disabled", "revoked", "client"])
async def test_no_token_that_was_signed_before_a_change_outlives_it(token: Token, signing: Outage, change: str) -> None:
    async def change_once() -> None:
        signing.meanwhile = None
        if change == "disabled":
            await token.subjects.set_grants(ALICE, [], disabled=True, version=1)
        elif change == "revoked":
            await token.subjects.revoke(ALICE, uuid.uuid4())
        else:
            del token.clients["demo"]
            await token.database.execute("UPDATE clients SET delete_time = now()")

    signing.meanwhile = change_once
    try:
        issued = await token.sign_in(ALICE)
    except (Unauthenticated, InvalidArgument):
        assert change != "revoked"
        assert await token.database.fetchval("SELECT count(*) FROM sessions") == 0
    else:
        assert change == "revoked"
        assert not await token.refuses(issued)


async def test_a_sign_in_among_endless_changes_is_unavailable_and_not_endless(token: Token, signing: Outage) -> None:
    versions = itertools.count(1)

    async def change() -> None:
        version = next(versions)
        await token.subjects.set_grants(ALICE, ["admin"] * (version % 2), disabled=False, version=version)

    signing.meanwhile = change
    with pytest.raises(Unavailable):
        await token.sign_in(ALICE)
    assert await token.database.fetchval("SELECT count(*) FROM sessions") == 0
