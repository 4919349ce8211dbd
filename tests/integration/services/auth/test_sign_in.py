"""Signing in, on a real database."""

import asyncio
import uuid
from typing import TYPE_CHECKING

import pytest

from mesh.errors import FailedPrecondition, Reason, ResourceExhausted, Unauthenticated, Unavailable, field_invalid
from services.auth import upkeep
from services.auth.hasher import Hasher

if TYPE_CHECKING:
    from .conftest import Auth

PASSWORD = "correct horse battery"
HOME, ELSEWHERE = "203.0.113.7", "198.51.100.7"


async def fail(auth: "Auth", count: int = 1, address: str = HOME, email: str = "ada@example.com") -> list[BaseException]:
    """The refusals of wrong passwords, one after the other."""
    refusals: list[BaseException] = []
    for _ in range(count):
        with pytest.raises((Unauthenticated, ResourceExhausted)) as refusal:
            await auth.sign_in(email, "a wrong password", address=address)
        refusals.append(refusal.value)
    return refusals


async def test_a_right_password_starts_a_session(auth: "Auth") -> None:
    user_id = await auth.verified()
    tokens = await auth.sign_in("ADA@example.com", instance_id=str(uuid.uuid4()))
    (order,) = auth.token.orders
    assert (order.subject, order.client_id, list(order.scopes), list(order.amr)) == (str(user_id), "demo", ["user:read"], ["pwd"])
    assert (order.address, order.user_agent) == (HOME, "test/1")
    assert order.auth_time.ToSeconds() == int(auth.clock.now.timestamp())
    (event,) = await auth.events("auth.signed_in")
    assert (event.actor, event.session, event.client) == (f"users/{user_id}", tokens.session, "clients/demo")


async def test_a_wrong_password_and_an_unknown_address_are_one_answer(auth: "Auth") -> None:
    user_id = await auth.verified()
    (wrong,), (unknown,) = await fail(auth), await fail(auth, email="nobody@example.com")
    assert isinstance(wrong, Unauthenticated)
    assert isinstance(unknown, Unauthenticated)
    assert (wrong.reason, wrong.message) == (unknown.reason, unknown.message) == (Reason.CREDENTIALS_INVALID, wrong.message)
    (event,) = await auth.events("auth.sign_in_failed")
    assert (event.subject, event.reason) == (f"users/{user_id}", "CREDENTIALS_INVALID")
    assert await auth.denied("CREDENTIALS_INVALID") == 1


async def test_a_disabled_account_is_refused_like_a_wrong_password(auth: "Auth") -> None:
    user_id = await auth.verified()
    await auth.credentials.set_status(user_id, disabled=True, version=2)
    with pytest.raises(Unauthenticated) as refusal:
        await auth.sign_in()
    assert refusal.value.reason is Reason.CREDENTIALS_INVALID
    await auth.credentials.set_status(user_id, disabled=False, version=3)
    assert (await auth.sign_in()).access_token


async def test_a_dead_token_service_is_an_outage_and_no_wrong_password(auth: "Auth") -> None:
    await auth.verified()
    auth.token.refusal = Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "gone")
    for _ in range(20):
        with pytest.raises(Unavailable):
            await auth.sign_in()
    auth.token.refusal = None
    assert (await auth.sign_in()).access_token
    assert await auth.events("auth.sign_in_failed") == []


async def test_refusals_of_token_pass(auth: "Auth") -> None:
    await auth.verified()
    auth.token.refusal = field_invalid("client_id", "no such client")
    with pytest.raises(type(auth.token.refusal)) as refusal:
        await auth.sign_in()
    assert refusal.value.violations[0].field == "client_id"
    auth.token.refusal = Unauthenticated(Reason.CREDENTIALS_INVALID, "disabled")
    with pytest.raises(Unauthenticated):
        await auth.sign_in()
    assert len(await auth.events("auth.sign_in_failed")) == 1


async def test_too_many_wrong_passwords_have_to_wait_longer_and_longer(auth: "Auth") -> None:
    await auth.verified()
    *_, limited = await fail(auth, 11)
    assert isinstance(limited, ResourceExhausted)
    assert limited.reason is Reason.RATE_LIMITED
    assert limited.retry_after
    assert limited.retry_after.total_seconds() == pytest.approx(1)
    auth.clock.pass_(seconds=1)
    first, second = await fail(auth, 2)
    assert isinstance(first, Unauthenticated)
    assert isinstance(second, ResourceExhausted)
    assert second.retry_after
    assert second.retry_after.total_seconds() == pytest.approx(2)
    auth.clock.pass_(seconds=2)
    assert (await auth.sign_in()).access_token
    assert isinstance((await fail(auth))[0], Unauthenticated)


@pytest.mark.parametrize("has_account", [True, False])
async def test_a_strangers_own_sign_up_at_the_address_gives_no_further_guesses(auth: "Auth", *, has_account: bool) -> None:
    if has_account:
        await auth.verified()
    await auth.sign_up(password="the stranger's password", address=ELSEWHERE)
    refusals: list[BaseException] = []
    for _ in range(4):
        refusals += await fail(auth, 4, address=ELSEWHERE)
        with pytest.raises((FailedPrecondition, ResourceExhausted)):
            await auth.sign_in(password="the stranger's password", address=ELSEWHERE)
    assert sum(isinstance(refusal, Unauthenticated) for refusal in refusals) == 10


async def test_an_unknown_address_is_throttled_alike(auth: "Auth") -> None:
    await auth.verified()
    kinds = [[type(error) for error in await fail(auth, 12, email=email)] for email in ("ada@example.com", "nobody@example.com")]
    assert kinds[0] == kinds[1]


async def test_a_stranger_can_not_lock_the_owner_out(auth: "Auth") -> None:
    await auth.verified()
    for _ in range(40):
        await fail(auth, address=ELSEWHERE)
        auth.clock.pass_(minutes=16)
    await fail(auth, 3, address=ELSEWHERE)
    assert (await auth.sign_in(address=HOME)).access_token


async def test_a_known_installation_comes_in_while_many_strangers_are_slowed(auth: "Auth") -> None:
    await auth.verified()
    instance = str(uuid.uuid4())
    await auth.sign_in(instance_id=instance)
    for network in range(60):
        await fail(auth, address=f"198.51.{network}.1")
    assert isinstance((await fail(auth, address="192.0.2.1"))[0], ResourceExhausted)
    assert (await auth.sign_in(address="192.0.2.1", instance_id=instance)).access_token
    assert (await auth.sign_in(address=HOME)).access_token


async def test_a_hundred_guesses_at_once_are_a_hundred_guesses(auth: "Auth") -> None:
    await auth.verified()
    errors = await asyncio.gather(*(auth.sign_in(password="a wrong password") for _ in range(100)), return_exceptions=True)
    assert sum(isinstance(error, Unauthenticated) for error in errors) == 10
    assert sum(isinstance(error, ResourceExhausted) for error in errors) == 90
    # Throttled ones are counted, not written one by one.
    assert len(await auth.events("auth.sign_in_failed")) == 10
    assert await auth.denied("RATE_LIMITED") == 90


async def test_a_password_hashed_by_other_parameters_is_hashed_anew(auth: "Auth") -> None:
    await auth.verified()
    before = await auth.database.fetchval("SELECT password_hash FROM accounts")
    auth.use_hasher(Hasher(time_cost=2, memory_kib=128, lanes=1, threads=2, waiting=10))
    await auth.sign_in()
    after = await auth.database.fetchval("SELECT password_hash FROM accounts")
    assert before != after
    assert "m=128,t=2" in after
    assert (await auth.sign_in()).access_token


async def test_counted_denials_become_one_event_when_their_minute_is_over(auth: "Auth") -> None:
    for _ in range(3):
        await fail(auth, email=f"{uuid.uuid4()}@example.com")
    assert await auth.denials.flush() == 0
    auth.clock.pass_(minutes=2)
    assert await auth.denials.flush() == 1
    (event,) = await auth.events("auth.anonymous_denials")
    assert (event.reason, event.address, event.detail["count"]) == ("CREDENTIALS_INVALID", "203.0.113.0/24", "3")
    assert await auth.denials.flush() == 0


async def test_the_same_work_takes_the_same_time(auth: "Auth") -> None:
    """Not to the microsecond: that the two can't be told apart by what dominates, with real parameters."""
    auth.use_hasher(Hasher(time_cost=2, memory_kib=19 * 1024, lanes=1, threads=2, waiting=10), answer_seconds=0.25)
    await auth.verified()
    loop = asyncio.get_running_loop()
    spent: dict[str, list[float]] = {"ada@example.com": [], "nobody@example.com": []}
    for _ in range(4):
        for email, times in spent.items():
            started = loop.time()
            await fail(auth, email=email)
            times.append(loop.time() - started)
    known, unknown = (min(times) for times in spent.values())
    assert known == pytest.approx(unknown, abs=0.02)
    assert min(known, unknown) >= 0.25


async def test_status_follows_the_newest_version_only(auth: "Auth") -> None:
    user_id = await auth.verified()
    await auth.credentials.set_status(user_id, disabled=True, version=5)
    await auth.credentials.set_status(user_id, disabled=True, version=5)
    await auth.credentials.set_status(user_id, disabled=False, version=4)
    await fail(auth)
    (event,) = await auth.events("auth.status_changed")
    assert (event.subject, event.detail["disabled"]) == (f"users/{user_id}", "true")
    await auth.credentials.set_status(uuid.uuid4(), disabled=True, version=1)


async def test_erased_credentials_are_gone_and_the_address_is_free(auth: "Auth") -> None:
    user_id = await auth.verified()
    await auth.sign_in()
    await auth.credentials.delete(user_id)
    await auth.credentials.delete(user_id)
    await fail(auth)
    assert len(await auth.events("auth.credentials_deleted")) == 1
    for table in ("accounts", "sign_ups", "familiar_sources"):
        assert await auth.database.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert await auth.verified() != user_id


async def test_upkeep_forgets_what_has_expired(auth: "Auth", monkeypatch: pytest.MonkeyPatch) -> None:
    # However much it is, no statement takes long.
    monkeypatch.setattr(upkeep, "BATCH", 1)
    await auth.verified()
    await auth.sign_in()
    await auth.sign_up("bob@example.com")
    await auth.upkeep.sweep()
    assert await auth.database.fetchval("SELECT count(*) FROM sign_ups") == 2
    auth.clock.pass_(days=2)
    await auth.upkeep.sweep()
    assert await auth.database.fetchval("SELECT count(*) FROM sign_ups") == 0
    assert await auth.database.fetchval("SELECT count(*) FROM attempts") == 0
    assert await auth.database.fetchval("SELECT count(*) FROM familiar_sources") == 1
    auth.clock.pass_(days=90)
    await auth.upkeep.sweep()
    assert await auth.database.fetchval("SELECT count(*) FROM familiar_sources") == 0
    assert (await auth.sign_in()).access_token
