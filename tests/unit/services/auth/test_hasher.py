"""Argon2id, with little memory so that the tests are quick."""

import asyncio
from typing import Any

import pytest

from mesh.errors import Reason, ResourceExhausted
from services.auth.hasher import Hasher


def hasher(**changes: Any) -> Hasher:
    return Hasher(**{"time_cost": 1, "memory_kib": 64, "lanes": 1, "threads": 2, "waiting": 10} | changes)


async def test_only_the_right_password_is_right() -> None:
    argon2 = hasher()
    stored = await argon2.hash_password("correct horse battery")
    assert stored.startswith("$argon2id$")
    assert await argon2.is_right(stored, "correct horse battery")
    assert not await argon2.is_right(stored, "correct horse batterz")


async def test_two_spellings_of_one_text_are_one_password() -> None:
    argon2 = hasher()
    assert await argon2.is_right(await argon2.hash_password("cafe\u0301 au lait"), "caf\u00e9 au lait")


async def test_nothing_is_the_password_of_nobody() -> None:
    assert not await hasher().is_right(None, "anything")


async def test_a_hash_by_other_parameters_is_outdated_and_still_good() -> None:
    stored = await hasher().hash_password("correct horse battery")
    stronger = hasher(time_cost=2)
    assert stronger.is_outdated(stored)
    assert not hasher().is_outdated(stored)
    assert await stronger.is_right(stored, "correct horse battery")


async def test_a_code_has_one_digest_for_each_address() -> None:
    argon2 = hasher()
    digest = await argon2.digest_code("ada@example.com", "12345678")
    assert digest == await argon2.digest_code("ada@example.com", "12345678")
    assert digest != await argon2.digest_code("bob@example.com", "12345678")
    assert digest != await argon2.digest_code("ada@example.com", "12345679")


async def test_what_can_not_wait_is_shed_and_room_comes_back() -> None:
    argon2 = hasher(threads=1, waiting=1, memory_kib=4096)
    results = await asyncio.gather(*(argon2.hash_password("correct horse battery") for _ in range(5)), return_exceptions=True)
    shed = [result for result in results if isinstance(result, ResourceExhausted)]
    assert len(shed) == 3
    assert {(error.reason, error.retry_after is not None) for error in shed} == {(Reason.OVERLOADED, True)}
    assert await argon2.hash_password("correct horse battery")


async def test_a_caller_who_leaves_does_not_free_the_processor() -> None:
    argon2 = hasher(threads=1, waiting=0, memory_kib=64 * 1024)
    leaving = asyncio.create_task(argon2.hash_password("correct horse battery"))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    with pytest.raises(ResourceExhausted):
        await argon2.hash_password("correct horse battery")
