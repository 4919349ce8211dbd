"""Argon2id, with little memory so that the tests are quick."""

import asyncio
from typing import Any

import pytest

from mesh.errors import Reason, ResourceExhausted
from services.auth.hasher import Hasher

PASSWORD = "correct horse battery"
SALT = b"salt of an email"
HOME, ELSEWHERE = "203.0.113.7", "198.51.100.7"


def hasher(**changes: Any) -> Hasher:
    return Hasher(**{"time_cost": 1, "memory_kib": 64, "lanes": 1, "threads": 2, "waiting": 10} | changes)


async def is_right(argon2: Hasher, stored: str | None, password: str) -> bool:
    return (await argon2.check_password(stored, password, SALT, HOME, refused=False)).right


async def test_only_the_right_password_is_right() -> None:
    argon2 = hasher()
    stored = await argon2.hash_password(PASSWORD, HOME)
    assert stored.startswith("$argon2id$")
    assert await is_right(argon2, stored, PASSWORD)
    assert not await is_right(argon2, stored, "correct horse batterz")


async def test_two_spellings_of_one_text_are_one_password() -> None:
    argon2 = hasher()
    assert await is_right(argon2, await argon2.hash_password("cafe\u0301 au lait", HOME), "caf\u00e9 au lait")


async def test_nothing_is_the_password_of_nobody() -> None:
    assert not await is_right(hasher(), None, "anything")


async def test_a_hash_by_other_parameters_is_outdated_and_still_good() -> None:
    stored = await hasher().hash_password(PASSWORD, HOME)
    stronger = hasher(time_cost=2)
    assert stronger.is_outdated(stored)
    assert not hasher().is_outdated(stored)
    assert await is_right(stronger, stored, PASSWORD)


async def test_a_wrong_password_is_hashed_to_look_for_a_sign_up() -> None:
    argon2 = hasher()
    stored, of_sign_up = await argon2.hash_password("another one", HOME), await argon2.hash_sign_up_password(PASSWORD, SALT, HOME)
    for account in (stored, None):
        assert (await argon2.check_password(account, PASSWORD, SALT, HOME, refused=False)).sign_up_hash == of_sign_up
    assert (await argon2.check_password(stored, PASSWORD, b"salt of another", HOME, refused=False)).sign_up_hash != of_sign_up


async def test_a_right_password_that_is_refused_costs_as_much_as_a_wrong_one() -> None:
    argon2 = hasher()
    stored = await argon2.hash_password(PASSWORD, HOME)
    assert (await argon2.check_password(stored, PASSWORD, SALT, HOME, refused=True)).sign_up_hash
    assert not (await argon2.check_password(stored, PASSWORD, SALT, HOME, refused=False)).sign_up_hash


async def test_a_sign_ups_password_is_that_of_the_account_that_it_becomes() -> None:
    argon2 = hasher()
    assert await is_right(argon2, await argon2.hash_sign_up_password(PASSWORD, SALT, HOME), PASSWORD)


async def test_a_code_has_one_digest_for_each_address() -> None:
    argon2 = hasher()
    digest = await argon2.digest_code("12345678", SALT, HOME)
    assert digest == await argon2.digest_code("12345678", SALT, HOME)
    assert digest != await argon2.digest_code("12345678", b"salt of another", HOME)
    assert digest != await argon2.digest_code("12345679", SALT, HOME)


async def test_what_can_not_wait_is_shed_and_room_comes_back() -> None:
    argon2 = hasher(threads=1, waiting=1, memory_kib=4096)
    results = await asyncio.gather(*(argon2.hash_password(PASSWORD, HOME) for _ in range(5)), return_exceptions=True)
    shed = [result for result in results if isinstance(result, ResourceExhausted)]
    assert len(shed) == 3
    assert {(error.reason, error.retry_after is not None) for error in shed} == {(Reason.OVERLOADED, True)}
    assert await argon2.hash_password(PASSWORD, HOME)


async def test_a_caller_who_leaves_does_not_free_the_processor() -> None:
    argon2 = hasher(threads=1, waiting=0, memory_kib=64 * 1024)
    leaving = asyncio.create_task(argon2.hash_password(PASSWORD, HOME))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    with pytest.raises(ResourceExhausted):
        await argon2.hash_password(PASSWORD, HOME)


async def test_a_caller_who_leaves_the_queue_makes_room() -> None:
    argon2 = hasher(threads=1, waiting=1, memory_kib=16 * 1024)
    running, leaving = (asyncio.create_task(argon2.hash_password(PASSWORD, HOME)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert await argon2.hash_password(PASSWORD, HOME)
    assert await running


async def test_a_fault_in_a_thread_is_the_callers_and_nobody_elses() -> None:
    argon2 = hasher(threads=1)
    with pytest.raises(Exception, match=r"[Ss]alt"):
        await argon2.digest_code("12345678", b"short", HOME)
    assert await argon2.hash_password(PASSWORD, HOME)


async def test_people_get_through_while_many_networks_each_below_its_limit_ask_for_more_than_there_is() -> None:
    """First come, first served would shed them all: 200 are there before them, and 20 may wait."""
    argon2 = hasher(threads=1, waiting=20)
    attackers, people = [f"10.0.{network}.1" for network in range(100)], [f"192.0.{network}.1" for network in range(20)]
    for address in attackers:
        await argon2.hash_password(PASSWORD, address)
    served: list[str] = []
    shed: list[str] = []

    async def ask(address: str) -> None:
        try:
            await argon2.hash_password(PASSWORD, address)
            served.append(address)
        except ResourceExhausted:
            shed.append(address)

    await asyncio.gather(*(ask(address) for address in [*attackers, *attackers, *people]))
    # The thread was taken already when the first of them came.
    assert set(served[1:21]) == set(people)
    assert len(shed) == 200 - 1
    assert set(shed) <= set(attackers)


async def test_a_network_that_asks_for_everything_leaves_the_others_theirs() -> None:
    argon2 = hasher(threads=1, waiting=20)
    greedy = [asyncio.create_task(argon2.hash_password(PASSWORD, HOME)) for _ in range(100)]
    await asyncio.sleep(0)
    others = [asyncio.create_task(argon2.hash_password(PASSWORD, f"192.0.2.{host}")) for host in range(10)]
    results = await asyncio.gather(*greedy, return_exceptions=True)
    assert sum(isinstance(result, ResourceExhausted) for result in results) == 100 - 1 - 10
    assert all(await asyncio.gather(*others))
