"""The person of a session shows again who they are, on a real database."""

import asyncio
import uuid
from datetime import timedelta

import pytest

from mesh.errors import InvalidArgument, NotFound, Reason, ResourceExhausted, Unavailable
from services.auth import throttle
from services.auth.reauthentication import Answer, Caller
from services.auth.second_factors import CHALLENGE_ATTEMPTS, CHALLENGE_LIFETIME
from services.auth.sign_in import MfaAnswer
from tests.integration.services.auth.conftest import HOME, PASSWORD, Auth, Person, code_refused, refused


@pytest.fixture
async def caller(auth: Auth) -> Caller:
    return Caller(await auth.verified(), uuid.uuid4(), "demo", HOME)


def of(ada: Person) -> Caller:
    return Caller(ada.id, uuid.uuid4(), "demo", HOME)


async def begin(auth: Auth, caller: Caller) -> str:
    return (await auth.reauthentication.begin(caller)).challenge


async def test_a_password_does_where_there_is_nothing_else(auth: Auth, caller: Caller) -> None:
    challenge = await auth.reauthentication.begin(caller)
    assert list(challenge.methods) == ["password"]
    await auth.reauthentication.finish(caller, Answer(challenge.challenge, PASSWORD, ""))
    (order,) = auth.token.reauthenticated
    assert (order.subject, order.session, list(order.amr)) == (str(caller.user_id), str(caller.session), ["pwd"])
    assert order.auth_time.ToSeconds() == int(auth.clock.now.timestamp())
    (event,) = await auth.events("auth.reauthenticated")
    assert (event.session, event.detail["amr"]) == (f"users/{caller.user_id}/sessions/{caller.session}", "pwd")


async def test_who_has_an_app_needs_it(ada: Person) -> None:
    auth, caller = ada.auth, of(ada)
    challenge = await auth.reauthentication.begin(caller)
    assert list(challenge.methods) == ["totp"]
    await refused(
        auth.reauthentication.finish(caller, Answer(challenge.challenge, PASSWORD, "")),
        InvalidArgument,
        Reason.FIELD_INVALID,
        "password",
    )
    await code_refused(auth.reauthentication.finish(caller, Answer(challenge.challenge, "", "000000")), "totp")
    code = ada.code()
    await auth.reauthentication.finish(caller, Answer(challenge.challenge, "", code))
    assert [list(order.amr) for order in auth.token.reauthenticated] == [["otp"]]
    again = await begin(auth, caller)
    await code_refused(auth.reauthentication.finish(caller, Answer(again, "", code)), "totp")


async def test_a_challenge_is_for_its_session_and_works_once(auth: Auth, caller: Caller) -> None:
    challenge = await begin(auth, caller)
    other = Caller(caller.user_id, uuid.uuid4(), "demo", HOME)
    await code_refused(auth.reauthentication.finish(other, Answer(challenge, PASSWORD, "")), "challenge")
    await auth.reauthentication.finish(caller, Answer(challenge, PASSWORD, ""))
    await code_refused(auth.reauthentication.finish(caller, Answer(challenge, PASSWORD, "")), "challenge")
    late = await begin(auth, caller)
    auth.clock.pass_(seconds=CHALLENGE_LIFETIME.total_seconds() + 1)
    await code_refused(auth.reauthentication.finish(caller, Answer(late, PASSWORD, "")), "challenge")


async def test_challenges_of_sign_ins_and_of_sessions_are_apart(ada: Person) -> None:
    auth, caller = ada.auth, of(ada)
    of_sign_in, of_session = await ada.challenge(), await begin(auth, caller)
    await code_refused(auth.reauthentication.finish(caller, Answer(of_sign_in, "", ada.code())), "challenge")
    await code_refused(auth.gate.verify_mfa(MfaAnswer(of_session, ada.code(), "", HOME, "test/1")), "challenge")
    assert auth.token.orders == []


async def test_of_ten_answers_at_once_one_is_taken(auth: Auth, caller: Caller) -> None:
    challenge = await begin(auth, caller)
    tries = [auth.reauthentication.finish(caller, Answer(challenge, PASSWORD, "")) for _ in range(CHALLENGE_ATTEMPTS)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert outcomes.count(None) == len(auth.token.reauthenticated) == 1
    assert len(await auth.events("auth.reauthenticated")) == 1


async def test_wrong_passwords_are_few(auth: Auth, caller: Caller) -> None:
    for _ in range(throttle.CHANGE_BY_ACCOUNT.burst):
        # Of challenges of one moment, any may be the oldest.
        auth.clock.pass_(seconds=1)
        challenge = await begin(auth, caller)
        await refused(
            auth.reauthentication.finish(caller, Answer(challenge, "wrong", "")),
            InvalidArgument,
            Reason.FIELD_INVALID,
            "password",
        )
    auth.clock.pass_(seconds=1)
    challenge = await begin(auth, caller)
    await refused(
        auth.reauthentication.finish(caller, Answer(challenge, PASSWORD, "")), ResourceExhausted, Reason.RATE_LIMITED
    )
    assert len(await auth.events("auth.sign_in_failed")) == throttle.CHANGE_BY_ACCOUNT.burst
    auth.clock.pass_(seconds=throttle.CHANGE_BY_ACCOUNT.interval.total_seconds())
    await auth.reauthentication.finish(caller, Answer(await begin(auth, caller), PASSWORD, ""))


async def test_token_may_refuse_and_the_account_may_be_gone(auth: Auth, caller: Caller) -> None:
    auth.token.refusal = Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "down", retry_after=timedelta(seconds=1))
    await refused(
        auth.reauthentication.finish(caller, Answer(await begin(auth, caller), PASSWORD, "")),
        Unavailable,
        Reason.DEPENDENCY_UNAVAILABLE,
    )
    auth.token.refusal = None
    challenge = await begin(auth, caller)
    await auth.credentials.delete(caller.user_id)
    await refused(auth.reauthentication.begin(caller), NotFound, Reason.USER_NOT_FOUND)
    await refused(
        auth.reauthentication.finish(caller, Answer(challenge, PASSWORD, "")), NotFound, Reason.USER_NOT_FOUND
    )
