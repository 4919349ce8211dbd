"""Argon2id, with little memory so that the tests are quick."""

from typing import Any

import pytest

from mesh.errors import Reason, Unavailable
from services.auth.hasher import Hasher

PASSWORD = "correct horse battery"
SALT = b"salt of an email"


def hasher(**changes: Any) -> Hasher:
    return Hasher(**{"time_cost": 1, "memory_kib": 64, "lanes": 1, "threads": 2} | changes)


async def is_right(argon2: Hasher, stored: str | None, password: str) -> bool:
    return (await argon2.check_password(stored, password, SALT, refused=False)).right


async def test_only_the_right_password_is_right() -> None:
    argon2 = hasher()
    stored = await argon2.hash_password(PASSWORD)
    assert stored.startswith("$argon2id$")
    assert await is_right(argon2, stored, PASSWORD)
    assert not await is_right(argon2, stored, "correct horse batterz")


async def test_two_spellings_of_one_text_are_one_password() -> None:
    argon2 = hasher()
    assert await is_right(argon2, await argon2.hash_password("cafe\u0301 au lait"), "caf\u00e9 au lait")


async def test_nothing_is_the_password_of_nobody() -> None:
    assert not await is_right(hasher(), None, "anything")


async def test_a_hash_by_other_parameters_is_outdated_and_still_good() -> None:
    stored = await hasher().hash_password(PASSWORD)
    stronger = hasher(time_cost=2)
    assert stronger.is_outdated(stored)
    assert not hasher().is_outdated(stored)
    assert await is_right(stronger, stored, PASSWORD)


async def test_a_wrong_password_is_hashed_to_look_for_a_sign_up() -> None:
    argon2 = hasher()
    stored, of_sign_up = await argon2.hash_password("another one"), await argon2.hash_sign_up_password(PASSWORD, SALT)
    for account in (stored, None):
        assert (await argon2.check_password(account, PASSWORD, SALT, refused=False)).sign_up_hash == of_sign_up
    assert (await argon2.check_password(stored, PASSWORD, b"salt of another", refused=False)).sign_up_hash != of_sign_up


async def test_a_right_password_that_is_refused_costs_as_much_as_a_wrong_one() -> None:
    argon2 = hasher()
    stored = await argon2.hash_password(PASSWORD)
    assert (await argon2.check_password(stored, PASSWORD, SALT, refused=True)).sign_up_hash
    assert not (await argon2.check_password(stored, PASSWORD, SALT, refused=False)).sign_up_hash


async def test_a_sign_ups_password_is_that_of_the_account_that_it_becomes() -> None:
    argon2 = hasher()
    assert await is_right(argon2, await argon2.hash_sign_up_password(PASSWORD, SALT), PASSWORD)


async def test_a_code_has_one_digest_for_each_address() -> None:
    argon2 = hasher()
    digest = await argon2.digest_code("12345678", SALT)
    assert digest == await argon2.digest_code("12345678", SALT)
    assert digest != await argon2.digest_code("12345678", b"salt of another")
    assert digest != await argon2.digest_code("12345679", SALT)


async def test_a_fault_in_a_thread_is_the_callers_and_nobody_elses() -> None:
    argon2 = hasher(threads=1)
    with pytest.raises(Exception, match=r"[Ss]alt"):
        await argon2.digest_code("12345678", b"short")
    assert await argon2.hash_password(PASSWORD)


OLD, NEW = b"o" * 32, b"n" * 32


async def test_a_pepper_goes_into_the_hash_and_without_it_the_hash_is_worth_nothing() -> None:
    argon2, without = hasher(), hasher()
    argon2.pepper([OLD])
    stored = await argon2.hash_password(PASSWORD)
    pepper, phc = stored.split("$", 1)
    assert pepper.startswith("pepper=")
    assert await is_right(argon2, stored, PASSWORD)
    assert not await is_right(argon2, stored, "correct horse batterz")
    # The database alone: guesses at the hash find nothing.
    assert not await is_right(without, f"${phc}", PASSWORD)
    # Never taken for a wrong password.
    for other in (without, hasher()):
        other.pepper([NEW])
        for check in (is_right(other, stored, PASSWORD), other.is_right(stored, PASSWORD)):
            with pytest.raises(Unavailable) as refusal:
                await check
            assert refusal.value.reason is Reason.KEYS_UNAVAILABLE


async def test_a_pepper_is_rotated_as_people_sign_in() -> None:
    argon2 = hasher()
    plain = await argon2.hash_password(PASSWORD)
    argon2.pepper([OLD])
    old = await argon2.hash_password(PASSWORD)
    assert argon2.is_outdated(plain)
    assert not argon2.is_outdated(old)
    argon2.pepper([NEW, OLD])
    new = await argon2.hash_password(PASSWORD)
    for stored, outdated in ((plain, True), (old, True), (new, False)):
        assert argon2.is_outdated(stored) is outdated
        assert await is_right(argon2, stored, PASSWORD)
        assert await argon2.is_right(stored, PASSWORD)
    of_sign_up = await argon2.hash_sign_up_password(PASSWORD, SALT)
    assert (await argon2.check_password(None, PASSWORD, SALT, refused=False)).sign_up_hash == of_sign_up
    assert await is_right(argon2, of_sign_up, PASSWORD)
