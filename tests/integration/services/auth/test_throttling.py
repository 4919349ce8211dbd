"""No limit can be turned against a person: each with its numbers, on a real database."""

import asyncio
import uuid

import pytest

from mesh.errors import InvalidArgument, MeshError, Reason, ResourceExhausted, Unauthenticated
from tests.integration.services.auth.conftest import ELSEWHERE, EMAIL, HOME, PASSWORD, Auth

NEIGHBOUR = "203.0.113.8"
"""In the owner's /24."""
PHONE = "8b1c8a8e-3c0b-4f1e-9c1b-0d6a3f2e4b5a"


async def guess(auth: Auth, address: str, email: str = EMAIL, *, instance_id: str = "") -> MeshError:
    """The refusal of a wrong password."""
    with pytest.raises(MeshError) as refusal:
        await auth.sign_in(email, "a wrong password", address=address, instance_id=instance_id)
    assert isinstance(refusal.value, Unauthenticated | ResourceExhausted)
    return refusal.value


async def guesses(auth: Auth, address: str, email: str = EMAIL, *, most: int = 200) -> int:
    """How many wrong passwords are looked at until one is told to wait."""
    for count in range(most):
        if isinstance(await guess(auth, address, email), ResourceExhausted):
            return count
    return most


async def with_phone(auth: Auth) -> None:
    """An account that was signed in to from a phone at home."""
    await auth.verified()
    await auth.sign_in(instance_id=PHONE)


# Passwords


async def test_one_network_has_twenty_guesses_at_an_address_and_one_more_each_quarter_of_an_hour(auth: Auth) -> None:
    await auth.verified()
    assert await guesses(auth, ELSEWHERE) == 20
    refusal = await guess(auth, ELSEWHERE)
    assert (refusal.reason, refusal.retry_after and refusal.retry_after.total_seconds()) == (Reason.RATE_LIMITED, 900)
    auth.clock.pass_(minutes=15)
    assert await guesses(auth, ELSEWHERE) == 1
    auth.clock.pass_(hours=24)
    assert await guesses(auth, ELSEWHERE) == 20


async def test_a_right_password_costs_nothing_and_gives_no_further_guesses(auth: Auth) -> None:
    await auth.verified()
    for _ in range(15):
        await guess(auth, HOME)
    for _ in range(30):
        assert (await auth.sign_in(address=HOME)).access_token
    assert await guesses(auth, HOME) == 5


async def test_a_stranger_next_door_does_not_lock_the_owner_out(auth: Auth) -> None:
    """Not even from a device that was never used before: the neighbour's own host is what runs dry."""
    await auth.verified()
    assert await guesses(auth, NEIGHBOUR) == 20
    assert (await auth.sign_in(address=HOME)).access_token
    assert await guesses(auth, HOME) == 20


async def test_a_stranger_behind_the_same_address_does_not_lock_a_known_device_out(auth: Auth) -> None:
    await with_phone(auth)
    assert await guesses(auth, HOME) == 20
    assert (await auth.sign_in(address=HOME, instance_id=PHONE)).access_token
    # Nor does the owner's device give the stranger anything back.
    assert isinstance(await guess(auth, HOME), ResourceExhausted)


async def test_a_known_device_has_guesses_of_its_own(auth: Auth) -> None:
    await with_phone(auth)
    refusals = [await guess(auth, HOME, instance_id=PHONE) for _ in range(21)]
    assert [isinstance(refusal, ResourceExhausted) for refusal in refusals] == [False] * 20 + [True]
    assert await guesses(auth, HOME) == 20


async def test_a_network_that_was_used_before_is_not_exempt(auth: Auth) -> None:
    """It would tell whoever shares it that the address has an account."""
    await auth.verified()
    await auth.sign_in(address=HOME)
    for email in (EMAIL, "nobody@example.com"):
        assert sum([await guesses(auth, f"198.51.{network}.1", email) for network in range(6)]) == 100
        assert isinstance(await guess(auth, HOME, email), ResourceExhausted)


async def test_an_address_has_a_hundred_guesses_from_many_networks_and_one_more_each_minute(auth: Auth) -> None:
    await with_phone(auth)
    refusals = [await guess(auth, f"10.{network // 250}.{network % 250}.1") for network in range(300)]
    assert [isinstance(refusal, ResourceExhausted) for refusal in refusals] == [False] * 100 + [True] * 200
    auth.clock.pass_(minutes=1)
    refusals = [await guess(auth, f"10.9.{network}.1") for network in range(5)]
    assert [isinstance(refusal, ResourceExhausted) for refusal in refusals] == [False] + [True] * 4
    # Its owner is not slowed, wherever the phone is.
    assert (await auth.sign_in(address="192.0.2.1", instance_id=PHONE)).access_token


@pytest.mark.slow
async def test_ten_thousand_networks_against_one_account_are_slowed_and_its_owner_comes_in(auth: Auth) -> None:
    await with_phone(auth)
    addresses = [f"10.{network // 250}.{network % 250}.1" for network in range(10_000)]
    refusals = []
    for start in range(0, len(addresses), 100):
        refusals += await asyncio.gather(*(guess(auth, address) for address in addresses[start : start + 100]))
        if start % 1000 == 0:
            assert (await auth.sign_in(address=HOME, instance_id=PHONE)).access_token
    assert sum(isinstance(refusal, Unauthenticated) for refusal in refusals) == 100
    assert len(await auth.events("auth.sign_in_failed")) == 100
    assert await auth.kinds() == ["lockout"]


async def test_one_network_has_a_hundred_guesses_at_all_addresses_together(auth: Auth) -> None:
    """Spraying: one password at many accounts."""
    await with_phone(auth)
    refusals = [await guess(auth, HOME, f"person{number}@example.com") for number in range(110)]
    assert [isinstance(refusal, ResourceExhausted) for refusal in refusals] == [False] * 100 + [True] * 10
    assert refusals[-1].retry_after
    assert refusals[-1].retry_after.total_seconds() == 10
    auth.clock.pass_(seconds=10)
    assert isinstance(await guess(auth, HOME, "person111@example.com"), Unauthenticated)
    # A known device behind the same address comes in, and so does everybody next door.
    assert (await auth.sign_in(address=HOME, instance_id=PHONE)).access_token
    assert (await auth.sign_in(address=NEIGHBOUR)).access_token


async def test_many_hosts_of_a_network_spray_no_more_than_two(auth: Auth) -> None:
    tried = 0
    for host in range(4):
        refusals = [
            await guess(auth, f"2001:db8:1:{host}::1", f"person{host}.{number}@example.com") for number in range(105)
        ]
        tried += sum(isinstance(refusal, Unauthenticated) for refusal in refusals)
    assert tried == 200
    assert isinstance(await guess(auth, "2001:db8:2::1"), Unauthenticated)


async def test_limits_survive_a_restart(auth: Auth) -> None:
    await auth.verified()
    assert await guesses(auth, ELSEWHERE) == 20
    for _ in range(5):
        await auth.desk.resend_code(EMAIL, ELSEWHERE)
    # Another process has nothing but the database.
    again = Auth(auth.database)
    again.clock.now = auth.clock.now
    assert isinstance(await guess(again, ELSEWHERE), ResourceExhausted)
    with pytest.raises(ResourceExhausted):
        await again.desk.resend_code(EMAIL, ELSEWHERE)


# Codes


async def wrong_code(
    auth: Auth, address: str, password: str = "", email: str = EMAIL, code: str = "00000000"
) -> MeshError:
    """The refusal of a wrong code."""
    with pytest.raises(MeshError) as refusal:
        await auth.desk.verify_email(email, code, address, password)
    assert isinstance(refusal.value, InvalidArgument | ResourceExhausted)
    return refusal.value


async def test_one_network_has_ten_wrong_codes_for_an_address_and_a_new_one_each_five_minutes(auth: Auth) -> None:
    await auth.sign_up()
    refusals = [await wrong_code(auth, ELSEWHERE) for _ in range(12)]
    assert [refusal.reason for refusal in refusals] == [Reason.CODE_INVALID] * 10 + [Reason.RATE_LIMITED] * 2
    assert refusals[-1].retry_after
    assert refusals[-1].retry_after.total_seconds() == 300
    # The owner's is not void.
    await auth.desk.verify_email(EMAIL, await auth.newest_code(), HOME)


async def test_an_address_has_fifty_wrong_codes_from_many_networks(auth: Auth) -> None:
    await auth.sign_up()
    refusals = [await wrong_code(auth, f"10.0.{network}.1") for network in range(55)]
    assert [refusal.reason for refusal in refusals] == [Reason.CODE_INVALID] * 50 + [Reason.RATE_LIMITED] * 5


async def test_with_the_sign_ups_password_the_right_code_gets_past_every_limit(auth: Auth) -> None:
    await auth.sign_up()
    for network in range(55):
        await wrong_code(auth, f"10.0.{network}.1")
    for _ in range(15):
        await wrong_code(auth, HOME)
        await wrong_code(auth, HOME, "a stranger's guess")
    with pytest.raises(ResourceExhausted):
        await auth.desk.verify_email(EMAIL, await auth.newest_code(), HOME)
    await auth.desk.verify_email(EMAIL, await auth.newest_code(), HOME, PASSWORD)
    assert (await auth.sign_in()).access_token


async def test_a_limit_does_not_tell_whether_a_sign_ups_password_is_right(auth: Auth) -> None:
    await auth.sign_up()
    kinds: list[list[Reason]] = []
    for password in (PASSWORD, "a stranger's guess"):
        kinds.append([(await wrong_code(auth, f"10.{len(kinds)}.0.1", password)).reason for _ in range(13)])
    assert kinds[0] == kinds[1] == [Reason.CODE_INVALID] * 10 + [Reason.RATE_LIMITED] * 3


async def test_ten_wrong_codes_with_its_password_end_a_code_however_many_come_at_once(auth: Auth) -> None:
    """Whoever signs up with somebody else's address knows that sign-up's password, and has ten guesses at its code from
    all the world."""
    await auth.sign_up()
    code = await auth.newest_code()
    wrong = [f"{number:08d}" for number in range(40) if f"{number:08d}" != code]
    await asyncio.gather(
        *(wrong_code(auth, f"10.0.{number}.1", PASSWORD, code=item) for number, item in enumerate(wrong))
    )
    assert len(await auth.events("auth.code_refused")) == 10
    await wrong_code(auth, HOME, PASSWORD, code=code)
    await auth.desk.resend_code(EMAIL, HOME)
    await auth.desk.verify_email(EMAIL, await auth.newest_code(), HOME, PASSWORD)


async def test_codes_and_passwords_of_one_network_are_counted_together(auth: Auth) -> None:
    for number in range(60):
        await guess(auth, HOME, f"person{number}@example.com")
    reasons = [(await wrong_code(auth, HOME, email=f"person{number}@example.com")).reason for number in range(45)]
    assert reasons == [Reason.CODE_INVALID] * 40 + [Reason.RATE_LIMITED] * 5
    assert isinstance(await guess(auth, HOME), ResourceExhausted)


async def test_a_right_code_costs_nothing(auth: Auth) -> None:
    for number in range(105):
        await auth.sign_up(f"person{number}@example.com", address=f"10.0.{number}.1")
        await auth.desk.verify_email(
            f"person{number}@example.com", await auth.newest_code(f"person{number}@example.com"), HOME
        )


# Mail


async def test_one_network_signs_up_sixty_addresses_and_one_more_each_minute(auth: Auth) -> None:
    for number in range(60):
        await auth.sign_up(f"person{number}@example.com")
    with pytest.raises(ResourceExhausted) as refusal:
        await auth.sign_up("person60@example.com")
    assert refusal.value.retry_after
    assert refusal.value.retry_after.total_seconds() == 60
    with pytest.raises(ResourceExhausted):
        await auth.desk.resend_code(EMAIL, HOME)
    await auth.sign_up(address=NEIGHBOUR)
    assert await auth.messages("person60@example.com") == []


async def test_an_address_is_sent_ten_codes_and_one_more_each_quarter_of_an_hour(auth: Auth) -> None:
    for number in range(30):
        await auth.sign_up(password=f"mallory's password {number}", address=f"10.0.{number}.1")
    assert len(await auth.messages()) == 10
    auth.clock.pass_(minutes=15)
    for number in range(3):
        await auth.desk.resend_code(EMAIL, f"10.1.{number}.1")
    assert len(await auth.messages()) == 11


@pytest.mark.parametrize("by", ["sign-ups", "resending", "both"])
async def test_strangers_who_use_up_an_addresss_mail_do_not_keep_its_owner_from_signing_up(auth: Auth, by: str) -> None:
    await auth.sign_up(password="mallory's password 0", address=ELSEWHERE)
    for number in range(1, 30):
        if by != "resending":
            await auth.sign_up(password=f"mallory's password {number}", address=f"10.0.{number}.1")
        if by != "sign-ups":
            await auth.desk.resend_code(EMAIL, f"10.1.{number}.1")
    sent = len(await auth.messages())
    assert sent == 10
    await auth.sign_up()
    assert len(await auth.messages()) == sent
    # The owner reads the mail and has the password; the strangers have neither the one nor the other.
    await auth.desk.verify_email(EMAIL, await auth.newest_code(), HOME, PASSWORD)
    assert (await auth.sign_in()).access_token
    for number in range(30):
        with pytest.raises(MeshError):
            await auth.sign_in(password=f"mallory's password {number}", address=f"192.0.2.{number}")


async def test_strangers_who_keep_at_it_leave_a_good_code_in_the_mailbox_at_every_moment(auth: Auth) -> None:
    await auth.sign_up(password="mallory's password", address=ELSEWHERE)
    for minute in range(120):
        await auth.desk.resend_code(EMAIL, f"10.0.{minute}.1")
        auth.clock.pass_(minutes=1)
    assert len(await auth.messages()) <= 10 + 8
    await auth.sign_up()
    await auth.desk.verify_email(EMAIL, await auth.newest_code(), HOME, PASSWORD)


async def test_asking_for_codes_that_nobody_needs_uses_up_nothing(auth: Auth) -> None:
    for number in range(30):
        await auth.desk.resend_code(EMAIL, f"10.0.{number}.1")
    await auth.sign_up()
    assert len(await auth.messages()) == 1


async def test_an_address_with_an_account_hears_of_three_sign_ups_in_eight_hours(auth: Auth) -> None:
    await auth.verified()
    for number in range(10):
        await auth.sign_up(password=f"mallory's password {number}", address=f"10.0.{number}.1")
    assert await auth.kinds() == ["sign_up_exists"] * 3


async def test_repeats_of_one_request_at_once_spend_one_try_and_one_message(auth: Auth) -> None:
    request_id = uuid.uuid4()
    await asyncio.gather(*(auth.sign_up(request_id=request_id) for _ in range(50)))
    await auth.sign_up(request_id=request_id)
    assert len(await auth.messages()) == 1
    for number in range(59):
        await auth.sign_up(f"person{number}@example.com")
    with pytest.raises(ResourceExhausted):
        await auth.sign_up("person60@example.com")
