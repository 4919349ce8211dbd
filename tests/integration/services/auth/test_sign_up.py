"""Signing up and proving the address, on a real database."""

import asyncio
import uuid
from typing import TYPE_CHECKING

import pytest
from authmesh.user.v1 import user_directory_pb2

from mesh.errors import FailedPrecondition, InvalidArgument, Reason, ResourceExhausted, Unauthenticated

if TYPE_CHECKING:
    from .conftest import Auth

EMAIL, PASSWORD = "ada@example.com", "correct horse battery"
HOME, ELSEWHERE = "203.0.113.7", "198.51.100.7"


async def refusal_of(code: str, auth: "Auth", email: str = EMAIL, password: str = "") -> InvalidArgument:
    with pytest.raises(InvalidArgument) as refusal:
        await auth.desk.verify_email(email, code, HOME, password)
    assert refusal.value.reason is Reason.CODE_INVALID
    return refusal.value


async def test_a_sign_up_sends_a_code_and_the_code_makes_the_account(auth: "Auth") -> None:
    await auth.sign_up("Ada@Example.com")
    (message,) = await auth.messages()
    assert (message["kind"], message["display_name"], len(message["code"])) == ("verify_email", "Ada", 8)
    assert [event.type for event in await auth.events()] == ["auth.signed_up", "auth.code_issued"]

    await auth.desk.verify_email("ADA@example.com", f"{message['code'][:4]} {message['code'][4:]}", HOME)

    row = await auth.database.fetchrow("SELECT destination, payload FROM outbox WHERE kind = 'command'")
    assert row
    assert row["destination"] == "/authmesh.user.v1.UserDirectory/CreateUser"
    profile = user_directory_pb2.CreateUserRequest.FromString(row["payload"])
    assert (profile.email, profile.display_name) == (EMAIL, "Ada")
    (verified,) = await auth.events("auth.email_verified")
    assert verified.subject == f"users/{profile.user_id}"
    assert (await auth.sign_in()).access_token


async def test_what_is_no_code_spends_no_attempt_and_a_code_may_be_pasted_with_what_surrounds_it(auth: "Auth") -> None:
    await auth.sign_up()
    for typed in ("", "1234567", "123456789", "1234 567x", "my code") * 3:
        with pytest.raises(InvalidArgument) as refused:
            await auth.desk.verify_email(EMAIL, typed, HOME)
        assert refused.value.reason is Reason.CODE_INVALID
    assert await auth.denied("CODE_INVALID") == 0
    assert await auth.events("auth.code_refused") == []
    code = await auth.newest_code()
    await auth.desk.verify_email(
        EMAIL, f"\u200b{code[:4]}\u00a0{code[4:]}\n".translate({48 + n: 0xFF10 + n for n in range(10)}), HOME
    )
    assert await auth.database.fetchval("SELECT count(*) FROM accounts") == 1


async def test_neither_code_nor_password_is_kept_or_audited(auth: "Auth") -> None:
    await auth.sign_up()
    code = (await auth.newest_code()).encode()
    row = await auth.database.fetchrow("SELECT * FROM sign_ups")
    assert row
    assert code not in repr(dict(row)).encode()
    assert PASSWORD not in repr(dict(row))
    assert all(code not in event.SerializeToString() for event in await auth.events())


async def test_a_code_is_good_once(auth: "Auth") -> None:
    await auth.sign_up()
    code = await auth.newest_code()
    await auth.desk.verify_email(EMAIL, code, HOME)
    await refusal_of(code, auth)
    assert await auth.database.fetchval("SELECT count(*) FROM outbox WHERE kind = 'command'") == 1


async def test_of_two_verifications_at_once_one_makes_the_account(auth: "Auth") -> None:
    await auth.sign_up()
    code = await auth.newest_code()
    results = await asyncio.gather(
        *(auth.desk.verify_email(EMAIL, code, HOME) for _ in range(8)), return_exceptions=True
    )
    assert results.count(None) == 1
    assert await auth.database.fetchval("SELECT count(*) FROM accounts") == 1


async def test_a_code_expires(auth: "Auth") -> None:
    await auth.sign_up()
    auth.clock.pass_(minutes=31)
    await refusal_of(await auth.newest_code(), auth)


async def test_an_unknown_address_is_refused_like_a_wrong_code(auth: "Auth") -> None:
    await auth.sign_up()
    known, unknown = await refusal_of("00000000", auth), await refusal_of("00000000", auth, "nobody@example.com")
    assert (known.message, known.violations) == (unknown.message, unknown.violations)
    assert await auth.denied("CODE_INVALID") == 1


async def test_a_resent_code_voids_none(auth: "Auth") -> None:
    """Or a stranger who asks for codes would void the one that its owner is typing."""
    await auth.sign_up()
    first = await auth.newest_code()
    await auth.desk.resend_code(EMAIL, ELSEWHERE)
    assert first != await auth.newest_code()
    await auth.desk.verify_email(EMAIL, first, HOME)
    await refusal_of(await auth.newest_code(), auth)


async def test_nothing_is_resent_to_an_address_that_needs_none(auth: "Auth") -> None:
    await auth.verified()
    before = len(await auth.messages())
    await auth.desk.resend_code(EMAIL, HOME)
    await auth.desk.resend_code("nobody@example.com", HOME)
    assert len(await auth.messages()) == before
    assert await auth.messages("nobody@example.com") == []


async def test_asking_for_codes_is_limited_whether_or_not_the_address_is_known(auth: "Auth") -> None:
    await auth.verified()
    for email in (EMAIL, "nobody@example.com"):
        for _ in range(5):
            await auth.desk.resend_code(email, HOME)
        with pytest.raises(ResourceExhausted) as refusal:
            await auth.desk.resend_code(email, HOME)
        assert refusal.value.reason is Reason.RATE_LIMITED
        assert refusal.value.retry_after
        await auth.desk.resend_code(email, ELSEWHERE)


async def test_a_taken_address_gets_a_message_that_says_so_and_keeps_its_password(auth: "Auth") -> None:
    user_id = await auth.verified()
    await auth.sign_up(password="another fine password", name="Mallory")
    message = (await auth.messages())[-1]
    assert (message["kind"], message["code"], message["display_name"]) == ("sign_up_exists", "", "")
    event = (await auth.events("auth.signed_up"))[-1]
    assert (event.subject, event.reason) == (f"users/{user_id}", "ALREADY_EXISTS")
    assert (await auth.sign_in()).access_token


async def test_signing_up_and_in_does_not_tell_whether_an_address_has_an_account(auth: "Auth") -> None:
    await auth.verified()
    for email in (EMAIL, "new@example.com"):
        await auth.sign_up(email, "mallory's own password")
        with pytest.raises(FailedPrecondition) as refusal:
            await auth.sign_in(email, "mallory's own password")
        assert refusal.value.reason is Reason.EMAIL_UNVERIFIED
        with pytest.raises(Unauthenticated):
            await auth.sign_in(email, "mallory's other password")
    auth.clock.pass_(hours=25)
    for email in (EMAIL, "new@example.com"):
        with pytest.raises(Unauthenticated):
            await auth.sign_in(email, "mallory's own password")


async def test_the_password_that_counts_is_that_of_the_sign_up_that_was_meant(auth: "Auth") -> None:
    await auth.sign_up(password="mallory was here first", name="Mallory")
    await auth.sign_up(password=PASSWORD)
    mine = await auth.newest_code()
    await auth.sign_up(password="mallory comes again", name="Mallory")
    await auth.desk.verify_email(EMAIL, mine, HOME, PASSWORD)
    assert (await auth.sign_in()).access_token
    for password in ("mallory was here first", "mallory comes again"):
        with pytest.raises((Unauthenticated, FailedPrecondition)):
            await auth.sign_in(password=password)
    for message in await auth.messages():
        for password in (PASSWORD, "mallory comes again"):
            await refusal_of(message["code"], auth, password=password)


async def test_with_the_password_a_code_confirms_no_strangers_sign_up(auth: "Auth") -> None:
    await auth.sign_up(password="mallory was here first", name="Mallory")
    strangers = await auth.newest_code()
    await auth.sign_up(password=PASSWORD)
    await refusal_of(strangers, auth, password=PASSWORD)
    assert await auth.database.fetchval("SELECT count(*) FROM accounts") == 0
    await auth.desk.verify_email(EMAIL, await auth.newest_code(), HOME, PASSWORD)
    assert (await auth.sign_in()).access_token


async def test_the_code_of_a_contested_address_opens_the_account_of_whoever_reads_its_mail(auth: "Auth") -> None:
    """Whichever of its messages it is from: the password that comes with it says which sign-up is meant."""
    await auth.sign_up(password=PASSWORD)
    await auth.sign_up(password="mallory comes later", name="Mallory")
    strangers = await auth.newest_code()
    assert len(strangers) == 16
    with pytest.raises(InvalidArgument) as refused:
        await auth.desk.verify_email(EMAIL, strangers, HOME)
    assert (refused.value.reason, refused.value.violations[0].field) == (Reason.FIELD_INVALID, "password")
    await auth.desk.verify_email(EMAIL, strangers, HOME, PASSWORD)
    assert (await auth.sign_in()).access_token
    (verified,) = await auth.events("auth.email_verified")
    profile = await auth.database.fetchval("SELECT user_id FROM accounts")
    assert verified.subject == f"users/{profile}"


async def test_a_repeated_request_changes_nothing(auth: "Auth") -> None:
    request_id = uuid.uuid4()
    await asyncio.gather(*(auth.sign_up(request_id=request_id) for _ in range(5)))
    await auth.sign_up("ADA@example.com", request_id=request_id)
    assert len(await auth.messages()) == 1
    assert await auth.database.fetchval("SELECT count(*) FROM sign_ups") == 1
    await auth.desk.verify_email(EMAIL, await auth.newest_code(), HOME)
    await auth.sign_up(request_id=request_id)
    assert len(await auth.messages()) == 1


@pytest.mark.parametrize("other", [{"email": "bob@example.com"}, {"name": "Bob"}])
async def test_the_same_request_id_with_another_body_is_refused(auth: "Auth", other: dict[str, str]) -> None:
    request_id = uuid.uuid4()
    await auth.sign_up(request_id=request_id)
    with pytest.raises(InvalidArgument) as refusal:
        await auth.sign_up(**other, request_id=request_id)
    assert refusal.value.reason is Reason.REQUEST_ID_REUSED
    assert await auth.database.fetchval("SELECT count(*) FROM sign_ups") == 1


async def test_a_request_id_does_not_tell_whether_a_password_is_that_of_its_sign_up(auth: "Auth") -> None:
    request_id = uuid.uuid4()
    await auth.sign_up(request_id=request_id)
    for guess in ("another fine password", PASSWORD, "yet another password"):
        await auth.sign_up(password=guess, request_id=request_id)
    assert len(await auth.messages()) == 1
    await auth.desk.verify_email(EMAIL, await auth.newest_code(), HOME)
    assert (await auth.sign_in(password=PASSWORD)).access_token


async def test_a_refused_password_writes_nothing(auth: "Auth") -> None:
    with pytest.raises(InvalidArgument):
        await auth.sign_up(password="aaaaaaaaaaaa")
    for table in ("sign_ups", "outbox", "buckets"):
        assert await auth.database.fetchval(f"SELECT count(*) FROM {table}") == 0
