"""Second factors, on a real database: set up, asked for at sign-in, lost and removed."""

import asyncio
import secrets
import uuid
from datetime import timedelta

import pytest
from authmesh.auth.v1.auth_service_pb2 import MfaChallenge
from authmesh.token.v1 import token_issuer_pb2, token_set_pb2

from mesh.errors import (
    FailedPrecondition,
    NotFound,
    Reason,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from services.auth import throttle
from services.auth.second_factors import CHALLENGE_ATTEMPTS, CHALLENGE_LIFETIME, CHALLENGES_AT_ONCE
from services.auth.secret_box import SecretBox
from tests.integration.services.auth.conftest import (
    ELSEWHERE,
    EMAIL,
    HOME,
    Auth,
    Person,
    app_of,
    code_refused,
    refused,
)

# Setting up.


async def test_an_app_is_demanded_once_it_was_shown_to_work(auth: Auth) -> None:
    user_id = await auth.verified()
    enrollment = await auth.mfa.enroll(user_id)
    assert enrollment.qr_svg.startswith("<svg")
    assert (await auth.sign_in()).access_token, "not demanded yet"
    app = app_of(enrollment.uri)
    assert (app.issuer, app.name) == ("authmesh", EMAIL)
    await code_refused(auth.mfa.confirm(user_id, uuid.uuid4(), "000000"), "totp")
    codes = await auth.mfa.confirm(user_id, uuid.uuid4(), app.at(auth.clock.now))
    assert len(codes) == 10
    assert isinstance(await auth.begin(), MfaChallenge)
    assert [event.type for event in await auth.events() if "mfa" in event.type] == [
        "auth.mfa_enrolled", "auth.mfa_failed", "auth.mfa_enabled", "auth.mfa_challenged",
    ]  # fmt: skip
    assert await auth.kinds() == ["mfa_enabled"]


async def test_sessions_that_began_without_the_app_end(auth: Auth) -> None:
    user_id, session = await auth.verified(), uuid.uuid4()
    app = app_of((await auth.mfa.enroll(user_id)).uri)
    await auth.mfa.confirm(user_id, session, app.at(auth.clock.now))
    (order,) = await auth.database.fetch("SELECT payload FROM outbox WHERE destination LIKE '%/RevokeSubject'")
    request = token_issuer_pb2.RevokeSubjectRequest.FromString(order["payload"])
    assert (request.subject, request.keep_session) == (str(user_id), str(session))


async def test_another_enrolment_begins_anew_until_one_is_confirmed(auth: Auth) -> None:
    user_id = await auth.verified()
    first, second = app_of((await auth.mfa.enroll(user_id)).uri), app_of((await auth.mfa.enroll(user_id)).uri)
    await code_refused(auth.mfa.confirm(user_id, uuid.uuid4(), first.at(auth.clock.now)), "totp")
    await auth.mfa.confirm(user_id, uuid.uuid4(), second.at(auth.clock.now))
    await refused(auth.mfa.enroll(user_id), FailedPrecondition, Reason.MFA_ENABLED)
    await refused(auth.mfa.confirm(user_id, uuid.uuid4(), "000000"), FailedPrecondition, Reason.MFA_NOT_ENROLLED)


async def test_without_an_enrolment_nothing_can_be_confirmed_disabled_or_regenerated(auth: Auth) -> None:
    user_id = await auth.verified()
    for action in (
        auth.mfa.confirm(user_id, uuid.uuid4(), "000000"), auth.mfa.disable(user_id, "000000"),
        auth.mfa.regenerate_recovery_codes(user_id),
    ):  # fmt: skip
        await refused(action, FailedPrecondition, Reason.MFA_NOT_ENROLLED)
    await auth.mfa.enroll(user_id)
    # One that is being set up is not one that is demanded.
    await refused(auth.mfa.disable(user_id, "000000"), FailedPrecondition, Reason.MFA_NOT_ENROLLED)
    await refused(auth.mfa.regenerate_recovery_codes(user_id), FailedPrecondition, Reason.MFA_NOT_ENROLLED)
    await refused(auth.mfa.enroll(uuid.uuid4()), NotFound, Reason.USER_NOT_FOUND)


async def test_a_deployment_without_a_secret_offers_no_apps(auth: Auth) -> None:
    user_id = await auth.verified()
    auth.factors.box = None
    await refused(auth.mfa.enroll(user_id), Unimplemented, Reason.NOT_IMPLEMENTED)


async def test_neither_secret_nor_recovery_codes_are_kept_in_the_clear_or_audited(ada: Person) -> None:
    secret = ada.app.secret
    rows = await ada.auth.database.fetch("SELECT * FROM totp")
    rows += await ada.auth.database.fetch("SELECT * FROM recovery_codes")
    kept = repr([dict(row) for row in rows]) + str(await ada.auth.events()) + str(await ada.auth.messages())
    for hidden in (secret, ada.app.byte_secret().hex(), repr(ada.app.byte_secret()), *ada.recovery_codes):
        assert hidden not in kept


# Signing in.


async def test_a_challenge_is_answered_with_a_code_of_the_app(ada: Person) -> None:
    instance = str(uuid.uuid4())
    challenge = await ada.challenge(instance_id=instance)
    assert ada.auth.token.orders == []
    tokens = await ada.answer(challenge, totp=ada.code(), address=ELSEWHERE)
    assert tokens.access_token
    (order,) = ada.auth.token.orders
    # For the client, the installation and the scopes of the sign-in; from where the answer came.
    assert (order.subject, order.client_id, order.device.instance_id) == (str(ada.id), "demo", instance)
    assert (list(order.amr), list(order.scopes), order.address) == (["pwd", "otp"], ["user:read"], ELSEWHERE)
    (event,) = await ada.auth.events("auth.signed_in")
    assert (event.detail["amr"], event.subject) == ("pwd otp", f"users/{ada.id}")
    await code_refused(ada.answer(challenge, totp=ada.code()), "challenge")


async def test_a_wrong_password_tells_nothing_of_the_second_factor(ada: Person) -> None:
    with pytest.raises(Unauthenticated):
        await ada.auth.begin(password="wrong")
    assert await ada.auth.events("auth.mfa_challenged") == []


async def test_a_disabled_account_gets_no_challenge_and_no_tokens(ada: Person) -> None:
    challenge = await ada.challenge()
    await ada.auth.credentials.set_status(ada.id, disabled=True, version=7)
    with pytest.raises(Unauthenticated):
        await ada.auth.begin()
    await code_refused(ada.answer(challenge, totp=ada.code()), "challenge")


async def test_a_code_works_once_and_so_does_none_before_it(ada: Person) -> None:
    earlier = ada.app.at(ada.auth.clock.now)
    code = ada.code()
    await ada.answer(await ada.challenge(), totp=code)
    for used in (code, earlier):
        await code_refused(ada.answer(await ada.challenge(), totp=used), "totp")
    await ada.answer(await ada.challenge(), totp=ada.code())


async def test_the_code_that_confirmed_is_used_up(ada: Person) -> None:
    await code_refused(ada.answer(await ada.challenge(), totp=ada.app.at(ada.auth.clock.now)), "totp")


async def test_of_ten_uses_of_a_code_at_once_one_works(ada: Person) -> None:
    challenges, code = [await ada.challenge() for _ in range(10)], ada.code()
    answers = (ada.answer(challenge, totp=code) for challenge in challenges)
    results = await asyncio.gather(*answers, return_exceptions=True)
    assert sum(isinstance(result, token_set_pb2.TokenSet) for result in results) == 1
    assert len(ada.auth.token.orders) == 1


async def test_of_ten_answers_to_a_challenge_at_once_one_works(ada: Person) -> None:
    challenge = await ada.challenge()
    answers = (ada.answer(challenge, recovery_code=code) for code in ada.recovery_codes)
    results = await asyncio.gather(*answers, return_exceptions=True)
    assert sum(isinstance(result, token_set_pb2.TokenSet) for result in results) == 1
    # The others used none of the codes up.
    left = await ada.auth.database.fetchval("SELECT count(*) FROM recovery_codes")
    assert left == 9


async def test_a_recovery_code_stands_in_for_the_app_once_and_the_person_hears_of_it(ada: Person) -> None:
    code = ada.recovery_codes[3]
    assert (await ada.answer(await ada.challenge(), recovery_code=code.lower().replace("-", " "))).access_token
    assert "recovery_code_used" in await ada.auth.kinds()
    assert len(await ada.auth.events("auth.recovery_code_used")) == 1
    await code_refused(ada.answer(await ada.challenge(), recovery_code=code), "recovery_code")
    await ada.answer(await ada.challenge(), recovery_code=ada.recovery_codes[4])


async def test_of_ten_uses_of_a_recovery_code_at_once_one_works(ada: Person) -> None:
    challenges = [await ada.challenge() for _ in range(10)]
    answers = (ada.answer(challenge, recovery_code=ada.recovery_codes[0]) for challenge in challenges)
    results = await asyncio.gather(*answers, return_exceptions=True)
    assert sum(isinstance(result, token_set_pb2.TokenSet) for result in results) == 1


async def test_a_challenge_expires_and_is_void_after_some_wrong_answers(ada: Person) -> None:
    old = await ada.challenge()
    ada.auth.clock.pass_(seconds=CHALLENGE_LIFETIME.total_seconds() + 1)
    await code_refused(ada.answer(old, totp=ada.code()), "challenge")
    tried = await ada.challenge()
    for _ in range(CHALLENGE_ATTEMPTS):
        await code_refused(ada.answer(tried, recovery_code="ABCD"), "recovery_code")
    await code_refused(ada.answer(tried, recovery_code=ada.recovery_codes[0]), "challenge")
    await code_refused(ada.answer(secrets.token_hex(32), totp=ada.code()), "challenge")
    assert await ada.auth.denied("CODE_INVALID") == 3


async def test_challenges_of_one_person_are_bounded(ada: Person) -> None:
    first = await ada.challenge()
    for _ in range(CHALLENGES_AT_ONCE):
        ada.auth.clock.pass_(seconds=1)
        await ada.challenge()
    assert await ada.auth.database.fetchval("SELECT count(*) FROM challenges") == CHALLENGES_AT_ONCE
    await code_refused(ada.answer(first, totp=ada.code()), "challenge")


async def test_who_knows_the_password_cant_guess_the_code_and_is_not_in_the_owners_way(ada: Person) -> None:
    phone = str(uuid.uuid4())
    await ada.answer(await ada.challenge(instance_id=phone), totp=ada.code())
    for attempt in range(throttle.MFA_BY_ACCOUNT.burst):
        challenge = await ada.challenge(address=ELSEWHERE, instance_id=str(uuid.uuid4()))
        await code_refused(ada.answer(challenge, totp=f"{attempt:06d}", address=ELSEWHERE), "totp")
    challenge = await ada.challenge(address=ELSEWHERE, instance_id=str(uuid.uuid4()))
    refusal = await refused(
        ada.answer(challenge, totp=ada.code(), address=ELSEWHERE), ResourceExhausted, Reason.RATE_LIMITED
    )
    assert refusal.retry_after
    # The owner's phone, and the owner's recovery codes, on whatever device.
    assert (await ada.answer(await ada.challenge(instance_id=phone), totp=ada.code())).access_token
    assert (await ada.answer(challenge, recovery_code=ada.recovery_codes[0], address=ELSEWHERE)).access_token
    # The owner was told that somebody knows the password.
    assert "sign_in_stopped" in await ada.auth.kinds()


async def test_a_token_that_can_not_be_had_is_on_record(ada: Person) -> None:
    challenge = await ada.challenge()
    ada.auth.token.refusal = Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "unavailable")
    await refused(ada.answer(challenge, totp=ada.code()), Unavailable, Reason.DEPENDENCY_UNAVAILABLE)
    (event,) = await ada.auth.events("auth.sign_in_failed")
    assert (event.reason, event.detail["password"]) == ("DEPENDENCY_UNAVAILABLE", "right")


async def test_a_password_reset_voids_what_waits_and_keeps_the_second_factor(ada: Person) -> None:
    challenge, code = await ada.challenge(), await ada.auth.reset_code()
    await ada.auth.passwords.reset(EMAIL, code, "another fine password", HOME)
    await code_refused(ada.answer(challenge, totp=ada.code()), "challenge")
    challenge = await ada.challenge(password="another fine password")
    assert (await ada.answer(challenge, totp=ada.code())).access_token


# Secrets at rest.


async def test_a_new_secret_of_the_deployment_is_taken_over_at_the_next_sign_in(ada: Person) -> None:
    old, new = ada.auth.box, secrets.token_bytes(32)
    before = await ada.auth.database.fetchrow("SELECT key_version FROM totp")
    ada.auth.factors.box = SecretBox(new)
    await refused(ada.answer(await ada.challenge(), totp=ada.code()), Unavailable, Reason.KEYS_UNAVAILABLE)
    both = SecretBox(new)
    both._keys |= old._keys
    ada.auth.factors.box = both
    await ada.answer(await ada.challenge(), totp=ada.code())
    assert await ada.auth.database.fetchrow("SELECT key_version FROM totp") != before
    ada.auth.factors.box = SecretBox(new)
    await ada.answer(await ada.challenge(), totp=ada.code())


async def test_losing_the_secret_locks_nobody_out_who_has_a_recovery_code(ada: Person) -> None:
    for box in (SecretBox(secrets.token_bytes(32)), None):
        ada.auth.factors.box = box
        await refused(ada.answer(await ada.challenge(), totp=ada.code()), Unavailable, Reason.KEYS_UNAVAILABLE)
        assert (await ada.answer(await ada.challenge(), recovery_code=ada.recovery_codes.pop())).access_token


async def test_a_secret_of_another_person_opens_nothing(ada: Person) -> None:
    other = await ada.auth.verified("bob@example.com")
    app = app_of((await ada.auth.mfa.enroll(other)).uri)
    await ada.auth.mfa.confirm(other, uuid.uuid4(), app.at(ada.auth.clock.now))
    await ada.auth.database.execute(
        "UPDATE totp SET sealed = (SELECT sealed FROM totp WHERE user_id = $1) WHERE user_id = $2", other, ada.id
    )
    ada.auth.clock.pass_(seconds=30)
    stolen = app.at(ada.auth.clock.now)
    await refused(ada.answer(await ada.challenge(), totp=stolen), Unavailable, Reason.KEYS_UNAVAILABLE)


# Removing.


async def test_an_app_is_turned_off_with_a_code_of_it(ada: Person) -> None:
    await code_refused(ada.auth.mfa.disable(ada.id, "000000"), "totp")
    challenge = await ada.challenge()
    await ada.auth.mfa.disable(ada.id, ada.code())
    assert (await ada.auth.sign_in()).access_token
    await code_refused(ada.answer(challenge, recovery_code=ada.recovery_codes[0]), "challenge")
    assert await ada.auth.database.fetchval("SELECT count(*) FROM recovery_codes") == 0
    assert (await ada.auth.kinds())[-1] == "mfa_disabled"
    await ada.auth.mfa.enroll(ada.id)


async def test_wrong_codes_of_a_signed_in_person_are_limited(ada: Person) -> None:
    for _ in range(throttle.MFA_BY_ACCOUNT.burst):
        await code_refused(ada.auth.mfa.disable(ada.id, "000000"), "totp")
    await refused(ada.auth.mfa.disable(ada.id, ada.code()), ResourceExhausted, Reason.RATE_LIMITED)
    ada.auth.clock.pass_(minutes=10)
    await ada.auth.mfa.disable(ada.id, ada.code())


async def test_new_recovery_codes_void_the_earlier_ones(ada: Person) -> None:
    codes = await ada.auth.mfa.regenerate_recovery_codes(ada.id)
    assert not set(codes) & set(ada.recovery_codes)
    await code_refused(ada.answer(await ada.challenge(), recovery_code=ada.recovery_codes[0]), "recovery_code")
    assert (await ada.answer(await ada.challenge(), recovery_code=codes[0])).access_token
    assert "recovery_codes_replaced" in await ada.auth.kinds()


async def test_an_operator_removes_a_second_factor_that_was_set_up_before(ada: Person) -> None:
    decided = ada.auth.clock.now
    await ada.auth.mfa.reset(ada.id, decided - timedelta(seconds=1))
    assert isinstance(await ada.auth.begin(), MfaChallenge), "set up later than that"
    for _ in range(2):
        await ada.auth.mfa.reset(ada.id, decided)
    assert (await ada.auth.sign_in()).access_token
    assert len(await ada.auth.events("auth.mfa_disabled")) == 1
    await ada.auth.mfa.reset(uuid.uuid4(), decided)


async def test_deleted_credentials_take_the_second_factor_along(ada: Person) -> None:
    await ada.challenge()
    await ada.auth.credentials.delete(ada.id)
    for table in ("totp", "recovery_codes", "challenges", "reset_codes"):
        assert await ada.auth.database.fetchval(f"SELECT count(*) FROM {table}") == 0
