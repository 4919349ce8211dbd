"""New passwords, by a code and by the old password, on a real database."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from authmesh.token.v1 import token_issuer_pb2

from mesh.errors import InvalidArgument, MeshError, NotFound, Reason, ResourceExhausted, Unauthenticated, Unavailable
from services.auth import reset_code, throttle
from services.auth.mfa import REVOKE_SUBJECT
from tests.integration.services.auth.conftest import ELSEWHERE, EMAIL, HOME, PASSWORD, Auth

NEW = "another fine password"
WRONG = "0" * 16
SESSION = uuid.uuid4()


async def refused(auth: Auth, code: str, *, email: str = EMAIL, password: str = NEW, address: str = HOME) -> MeshError:
    with pytest.raises(MeshError) as refusal:
        await auth.passwords.reset(email, code, password, address)
    return refusal.value


async def change(auth: Auth, user_id: uuid.UUID, current: str = PASSWORD, password: str = NEW) -> None:
    await auth.passwords.change(user_id, current, password, session=SESSION, client_id="demo", address=HOME)


async def commands(auth: Auth) -> list[token_issuer_pb2.RevokeSubjectRequest]:
    rows = await auth.database.fetch(
        "SELECT payload FROM outbox WHERE kind = 'command' AND destination = $1 ORDER BY id", REVOKE_SUBJECT
    )
    return [token_issuer_pb2.RevokeSubjectRequest.FromString(row["payload"]) for row in rows]


# With a code.


async def test_a_code_sets_a_new_password_and_ends_every_session(auth: Auth) -> None:
    user_id = await auth.verified()
    code = await auth.reset_code("Ada@Example.com".lower())
    assert len(code) == reset_code.DIGITS
    await auth.passwords.reset("ADA@example.com", f"{code[:4]} {code[4:8]}-{code[8:]}", NEW, ELSEWHERE)
    with pytest.raises(Unauthenticated):
        await auth.sign_in()
    assert (await auth.sign_in(password=NEW)).access_token
    # At once, and by the outbox where that failed: with one id, so that it is done once.
    (command,) = await commands(auth)
    assert auth.token.revoked == [command]
    assert (command.subject, command.keep_session) == (str(user_id), "")
    assert await auth.kinds() == ["reset_password", "password_reset"]
    issued, reset = (await auth.events("auth.code_issued"))[-1], (await auth.events("auth.password_reset"))[-1]
    assert (issued.detail["kind"], issued.subject, reset.subject) == (
        "reset_password",
        reset.subject,
        f"users/{user_id}",
    )


async def test_sessions_end_later_where_token_is_not_reached(auth: Auth) -> None:
    await auth.verified()
    code = await auth.reset_code()
    auth.token.refusal = Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "unavailable")
    await auth.passwords.reset(EMAIL, code, NEW, HOME)
    assert len(await commands(auth)) == 1
    auth.token.refusal = None
    assert (await auth.sign_in(password=NEW)).access_token


async def test_of_ten_uses_of_a_code_at_once_one_works(auth: Auth) -> None:
    await auth.verified()
    code = await auth.reset_code()
    passwords = [f"another fine password {number}" for number in range(10)]
    results = await asyncio.gather(
        *(auth.passwords.reset(EMAIL, code, password, HOME) for password in passwords), return_exceptions=True
    )
    assert results.count(None) == 1
    assert {type(result) for result in results} <= {type(None), InvalidArgument}
    assert (await auth.sign_in(password=passwords[results.index(None)])).access_token


async def test_a_reset_voids_every_other_code(auth: Auth) -> None:
    await auth.verified()
    first, second = await auth.reset_code(), await auth.reset_code()
    # The first is valid still: a stranger who asks for codes voids none.
    await auth.passwords.reset(EMAIL, first, NEW, HOME)
    assert (await refused(auth, second)).reason is Reason.CODE_INVALID
    assert (await refused(auth, first)).reason is Reason.CODE_INVALID


async def test_a_change_voids_every_code(auth: Auth) -> None:
    user_id = await auth.verified()
    code = await auth.reset_code()
    await change(auth, user_id)
    assert (await refused(auth, code)).reason is Reason.CODE_INVALID


async def test_a_code_expires(auth: Auth) -> None:
    await auth.verified()
    code = await auth.reset_code()
    auth.clock.pass_(minutes=31)
    assert (await refused(auth, code)).reason is Reason.CODE_INVALID


async def test_a_code_is_of_one_account(auth: Auth) -> None:
    await auth.verified()
    await auth.verified("bob@example.com")
    code = await auth.reset_code()
    assert (await refused(auth, code, email="bob@example.com")).reason is Reason.CODE_INVALID
    await auth.passwords.reset(EMAIL, code, NEW, HOME)


async def test_a_weak_password_is_refused_before_the_code_is_looked_at(auth: Auth) -> None:
    await auth.verified()
    code = await auth.reset_code()
    for weak in ("short", "password123", "ada@example.com"):
        refusal = await refused(auth, code, password=weak)
        assert (refusal.reason, refusal.violations[0].field) == (Reason.PASSWORD_INVALID, "new_password")
    await auth.passwords.reset(EMAIL, code, NEW, HOME)


async def test_what_is_no_code_costs_nothing(auth: Auth) -> None:
    await auth.verified()
    code = await auth.reset_code()
    for typed in ("12345678", "x" * 16, "1" * 17, "my code") * 10:
        assert (await refused(auth, typed)).reason is Reason.CODE_INVALID
    wide = code.translate({48 + digit: 0xFF10 + digit for digit in range(10)})
    await auth.passwords.reset(EMAIL, f"\u200b{wide[:8]}\u00a0{wide[8:]}\n", NEW, HOME)


async def test_neither_code_nor_password_is_kept_or_audited(auth: Auth) -> None:
    await auth.verified()
    code = await auth.reset_code()
    (row,) = await auth.database.fetch("SELECT * FROM reset_codes")
    assert code not in repr(dict(row)) + str(row["digest"])
    await auth.passwords.reset(EMAIL, code, NEW, HOME)
    assert all(secret not in str(event) for event in await auth.events() for secret in (code, NEW))


# What strangers learn and can do.


async def test_an_unknown_address_is_answered_like_a_known_one_and_is_sent_nothing(auth: Auth) -> None:
    user_id = await auth.verified()
    await auth.passwords.request_reset("nobody@example.com", HOME)
    assert await auth.messages("nobody@example.com") == []
    known, unknown = await refused(auth, WRONG), await refused(auth, WRONG, email="nobody@example.com")
    assert (known.reason, known.message, known.violations) == (unknown.reason, unknown.message, unknown.violations)
    await auth.credentials.set_status(user_id, disabled=True, version=7)
    before = len(await auth.messages())
    await auth.passwords.request_reset(EMAIL, ELSEWHERE)
    assert len(await auth.messages()) == before


async def test_requests_are_limited_whether_or_not_the_address_is_known(auth: Auth) -> None:
    await auth.verified()
    for email in (EMAIL, "nobody@example.com"):
        for _ in range(throttle.RESET_BY_NETWORK.burst):
            await auth.passwords.request_reset(email, HOME)
        with pytest.raises(ResourceExhausted) as refusal:
            await auth.passwords.request_reset(email, HOME)
        assert refusal.value.reason is Reason.RATE_LIMITED
        assert refusal.value.retry_after
        await auth.passwords.request_reset(email, ELSEWHERE)


async def test_strangers_requests_fill_no_mailbox_and_the_last_code_is_valid(auth: Auth) -> None:
    await auth.verified()
    before = len(await auth.messages())
    for network in range(30):
        await auth.passwords.request_reset(EMAIL, f"10.1.{network}.1")
    assert len(await auth.messages()) - before == throttle.CODES_BY_MAIL.burst
    auth.clock.pass_(minutes=14)
    await auth.passwords.request_reset(EMAIL, HOME)
    await auth.passwords.reset(EMAIL, await auth.newest_code(), NEW, HOME)


def test_a_valid_code_is_in_the_mailbox_however_many_were_asked_for() -> None:
    assert throttle.CODES_BY_MAIL.interval < reset_code.LIFETIME


async def test_wrong_codes_are_limited_by_network_and_are_never_in_the_owners_way(auth: Auth) -> None:
    await auth.verified()
    code = await auth.reset_code()
    for _ in range(throttle.RESET_CODE_BY_NETWORK.burst):
        assert (await refused(auth, WRONG, address=ELSEWHERE)).reason is Reason.CODE_INVALID
    assert (await refused(auth, code, address=ELSEWHERE)).reason is Reason.RATE_LIMITED
    # Ten thousand networks of strangers would leave the owner's as it is: no bucket is of the address.
    keys = [set(auth.passwords._throttle.reset_code(EMAIL, networks)) for networks in (["a"], ["b"])]
    assert not keys[0] & keys[1]
    await auth.passwords.reset(EMAIL, code, NEW, HOME)


async def test_a_right_code_costs_nothing(auth: Auth) -> None:
    await auth.verified()
    auth.passwords._throttle = throttle.Throttle(factor=1000)
    for number in range(throttle.RESET_CODE_BY_NETWORK.burst + 2):
        auth.clock.pass_(minutes=16)
        await auth.passwords.reset(EMAIL, await auth.reset_code(), f"{NEW} {number}", HOME)


async def test_refusals_write_rows_only_where_a_code_is_awaited(auth: Auth) -> None:
    await auth.verified()
    await refused(auth, WRONG)
    await refused(auth, WRONG, email="nobody@example.com")
    assert await auth.events("auth.code_refused") == []
    assert await auth.denied("CODE_INVALID") == 2
    await auth.reset_code()
    await refused(auth, WRONG)
    assert len(await auth.events("auth.code_refused")) == 1


# With the old password.


async def test_a_change_ends_the_other_sessions_and_tells_the_person(auth: Auth) -> None:
    user_id = await auth.verified()
    await change(auth, user_id)
    assert (await auth.sign_in(password=NEW)).access_token
    with pytest.raises(Unauthenticated):
        await auth.sign_in()
    (command,) = await commands(auth)
    assert auth.token.revoked == [command]
    assert (command.subject, command.keep_session) == (str(user_id), str(SESSION))
    assert await auth.kinds() == ["password_changed"]
    assert [event.subject for event in await auth.events("auth.password_changed")] == [f"users/{user_id}"]


async def test_a_wrong_current_password_changes_nothing_and_is_limited(auth: Auth) -> None:
    user_id = await auth.verified()
    for _ in range(throttle.CHANGE_BY_ACCOUNT.burst):
        with pytest.raises(InvalidArgument) as refusal:
            await change(auth, user_id, "wrong")
        assert refusal.value.reason is Reason.FIELD_INVALID
        assert refusal.value.violations[0].field == "current_password"
    with pytest.raises(ResourceExhausted) as limited:
        await change(auth, user_id)
    assert limited.value.reason is Reason.RATE_LIMITED
    assert await commands(auth) == []
    assert {event.detail["password"] for event in await auth.events("auth.sign_in_failed")} == {"wrong"}
    # By signing in, which is counted apart.
    assert (await auth.sign_in()).access_token
    auth.clock.pass_(minutes=15)
    await change(auth, user_id)


@pytest.mark.parametrize("password", ["short", "password123", "ada@example.com", PASSWORD])
async def test_a_weak_or_the_same_password_is_refused(auth: Auth, password: str) -> None:
    user_id = await auth.verified()
    with pytest.raises(InvalidArgument) as refusal:
        await change(auth, user_id, password=password)
    assert refusal.value.reason is Reason.PASSWORD_INVALID
    assert refusal.value.violations[0].field == "new_password"
    assert (await auth.sign_in()).access_token


async def test_of_ten_changes_at_once_one_works(auth: Auth) -> None:
    user_id = await auth.verified()
    passwords = [f"another fine password {number}" for number in range(10)]
    results = await asyncio.gather(
        *(change(auth, user_id, password=password) for password in passwords), return_exceptions=True
    )
    assert results.count(None) == 1
    assert (await auth.sign_in(password=passwords[results.index(None)])).access_token


async def test_an_account_that_is_gone_is_refused(auth: Auth) -> None:
    with pytest.raises(NotFound) as refusal:
        await change(auth, uuid.uuid4())
    assert refusal.value.reason is Reason.USER_NOT_FOUND


async def test_spent_and_expired_codes_are_swept(auth: Auth) -> None:
    await auth.verified()
    await auth.reset_code()
    auth.clock.pass_(minutes=31)
    while await auth.retention.step():
        pass
    assert await auth.database.fetchval("SELECT count(*) FROM reset_codes") == 0
    assert timedelta(minutes=30) == reset_code.LIFETIME
