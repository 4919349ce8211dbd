"""Signing in, on a real database."""

import asyncio
import uuid
from typing import TYPE_CHECKING

import pytest

from mesh.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    MeshError,
    Reason,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    field_invalid,
)
from services.auth import retention, store, throttle
from services.auth.hasher import Hasher
from tests.integration.services.audit.conftest import until

if TYPE_CHECKING:
    from .conftest import Auth

PASSWORD = "correct horse battery"
HOME, ELSEWHERE = "203.0.113.7", "198.51.100.7"


async def fail(
    auth: "Auth", count: int = 1, address: str = HOME, email: str = "ada@example.com"
) -> list[BaseException]:
    """The refusals of wrong passwords, one after the other."""
    refusals: list[BaseException] = []
    for _ in range(count):
        with pytest.raises((Unauthenticated, ResourceExhausted)) as refusal:
            await auth.sign_in(email, "a wrong password", address=address)
        refusals.append(refusal.value)
    return refusals


async def refusal_of(auth: "Auth", password: str, *, address: str = HOME, instance_id: str = "") -> MeshError:
    with pytest.raises(MeshError) as refusal:
        await auth.sign_in(password=password, address=address, instance_id=instance_id)
    return refusal.value


async def test_a_right_password_starts_a_session(auth: "Auth") -> None:
    user_id = await auth.verified()
    tokens = await auth.sign_in("ADA@example.com", instance_id=str(uuid.uuid4()))
    (order,) = auth.token.orders
    assert (order.subject, order.client_id, list(order.scopes), list(order.amr)) == (
        str(user_id),
        "demo",
        ["user:read"],
        ["pwd"],
    )
    assert (order.address, order.user_agent) == (HOME, "test/1")
    assert order.auth_time.ToSeconds() == int(auth.clock.now.timestamp())
    (event,) = await auth.events("auth.signed_in")
    assert (event.actor, event.session, event.client) == (f"users/{user_id}", tokens.session, "clients/demo")


async def test_a_wrong_password_and_an_unknown_address_are_one_answer(auth: "Auth") -> None:
    user_id = await auth.verified()
    (wrong,), (unknown,) = await fail(auth), await fail(auth, email="nobody@example.com")
    assert isinstance(wrong, Unauthenticated)
    assert isinstance(unknown, Unauthenticated)
    assert (
        (wrong.reason, wrong.message)
        == (unknown.reason, unknown.message)
        == (Reason.CREDENTIALS_INVALID, wrong.message)
    )
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


async def test_what_is_wrong_with_the_request_or_with_token_is_said_before_the_password_is_looked_at(
    auth: "Auth",
) -> None:
    """A right password with an unknown client was 400 and a wrong one 401: stolen passwords could be confirmed without
    a trace."""
    await auth.verified()
    before = len(await auth.events())
    for refusal in (field_invalid("client_id", "no such client"), Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "gone")):
        auth.token.check_refusal = refusal
        answers = []
        for email, password in (
            ("ada@example.com", PASSWORD),
            ("ada@example.com", "wrong"),
            ("nobody@example.com", "wrong"),
        ):
            with pytest.raises(MeshError) as refused:
                await auth.sign_in(email, password)
            answers.append(refused.value)
        assert answers == [refusal] * 3
    assert len(await auth.events()) == before
    assert auth.token.orders == []
    # Nothing was tried.
    assert (
        await auth.database.fetchval(
            "SELECT count(*) FROM buckets WHERE key = $1", throttle.key("sign_in", "ada@example.com")
        )
        == 0
    )


EXITS: dict[str, MeshError] = {
    "no scope is left": field_invalid("scopes", "this user can have none of these scopes with this client"),
    "Token is gone": Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "gone"),
    "time is up": DeadlineExceeded(Reason.DEADLINE, "late"),
    "Token heard first that the account is disabled": Unauthenticated(
        Reason.CREDENTIALS_INVALID, "this account can't sign in"
    ),
    "Token is full": ResourceExhausted(Reason.OVERLOADED, "later"),
}


@pytest.mark.parametrize("exit_", EXITS)
async def test_every_exit_behind_a_right_password_leaves_an_event_and_a_notice(auth: "Auth", exit_: str) -> None:
    user_id = await auth.verified()
    auth.token.refusal = EXITS[exit_]
    with pytest.raises(type(EXITS[exit_])):
        await auth.sign_in(address=ELSEWHERE)
    (event,) = await auth.events("auth.sign_in_failed")
    assert (event.subject, event.reason, event.detail["password"]) == (f"users/{user_id}", EXITS[exit_].reason, "right")
    assert await auth.kinds() == ["sign_in_stopped"]
    # Once a day from the same place.
    with pytest.raises(type(EXITS[exit_])):
        await auth.sign_in(address=ELSEWHERE)
    assert await auth.kinds() == ["sign_in_stopped"]
    assert len(await auth.events("auth.sign_in_failed")) == 2


async def test_a_disabled_account_hears_of_a_right_password_and_the_caller_does_not(auth: "Auth") -> None:
    user_id = await auth.verified()
    await auth.credentials.set_status(user_id, disabled=True, version=2)
    for password in (PASSWORD, "wrong"):
        with pytest.raises(Unauthenticated):
            await auth.sign_in(password=password)
    assert [event.detail["password"] for event in await auth.events("auth.sign_in_failed")] == ["right", "wrong"]
    assert await auth.kinds() == ["sign_in_stopped"]
    # And both count: were the right one no guess, it would go on where the wrong one is told to wait.
    assert {type(refusal) for refusal in await fail(auth, 9)} == {Unauthenticated}
    assert {type(await refusal_of(auth, PASSWORD)) for _ in range(9)} == {Unauthenticated}
    assert isinstance(await refusal_of(auth, PASSWORD), ResourceExhausted)
    assert isinstance(await refusal_of(auth, "wrong"), ResourceExhausted)


async def test_the_right_password_of_a_sign_up_leaves_an_event_and_a_notice_and_counts(auth: "Auth") -> None:
    await auth.sign_up()
    user_id = await auth.database.fetchval("SELECT user_id FROM sign_ups")
    for _ in range(20):
        assert isinstance(await refusal_of(auth, PASSWORD, address=ELSEWHERE), FailedPrecondition)
    events = await auth.events("auth.sign_in_failed")
    assert {(event.subject, event.reason, event.detail["password"]) for event in events} == {
        (f"users/{user_id}", "EMAIL_UNVERIFIED", "right")
    }
    assert len(events) == 20
    assert await auth.kinds() == ["sign_in_unverified"]
    assert isinstance(await refusal_of(auth, PASSWORD, address=ELSEWHERE), ResourceExhausted)


async def test_a_caller_who_leaves_behind_a_right_password_leaves_a_trace(auth: "Auth") -> None:
    """With a deadline between the answers to a right and to a wrong password, leaving would be asking."""
    await auth.verified()
    auth.token.may_answer.clear()
    auth.token.refusal = Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "gone")
    leaving = asyncio.create_task(auth.sign_in(address=ELSEWHERE))
    await auth.token.issuing.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    auth.token.may_answer.set()

    async def noticed() -> bool:
        return await auth.kinds() == ["sign_in_stopped"]

    await until(noticed)
    assert len(await auth.events("auth.sign_in_failed")) == 1


async def test_a_caller_who_leaves_before_the_tokens_come_leaves_the_trace_of_a_sign_in(auth: "Auth") -> None:
    await auth.verified()
    await auth.sign_in()
    auth.token.issuing.clear()
    auth.token.may_answer.clear()
    leaving = asyncio.create_task(auth.sign_in(address=ELSEWHERE))
    await auth.token.issuing.wait()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    auth.token.may_answer.set()

    async def noticed() -> bool:
        return await auth.kinds() == ["new_device"]

    await until(noticed)
    assert len(await auth.events("auth.signed_in")) == 2


async def test_an_outage_of_token_is_no_guess(auth: "Auth") -> None:
    await auth.verified()
    auth.token.refusal = Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "gone")
    for _ in range(30):
        assert isinstance(await refusal_of(auth, PASSWORD), Unavailable)
    auth.token.refusal = None
    assert (await auth.sign_in()).access_token


async def test_ones_own_installation_is_told_nothing_of_an_outage(auth: "Auth") -> None:
    await auth.verified()
    instance = str(uuid.uuid4())
    await auth.sign_in(instance_id=instance)
    auth.token.refusal = Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "gone")
    assert isinstance(await refusal_of(auth, PASSWORD, instance_id=instance), Unavailable)
    assert await auth.kinds() == []


@pytest.mark.parametrize("has_account", [True, False])
async def test_a_strangers_own_sign_up_at_the_address_gives_no_further_guesses(
    auth: "Auth", *, has_account: bool
) -> None:
    if has_account:
        await auth.verified()
    await auth.sign_up(password="the stranger's password", address=ELSEWHERE)
    refusals: list[BaseException] = []
    for _ in range(8):
        refusals += await fail(auth, 4, address=ELSEWHERE)
        refusals.append(await refusal_of(auth, "the stranger's password", address=ELSEWHERE))
    assert sum(not isinstance(refusal, ResourceExhausted) for refusal in refusals) == 20


async def test_somebody_elses_sign_up_does_not_hide_ones_own(auth: "Auth") -> None:
    await auth.sign_up()
    await auth.sign_up(password="the stranger's password", address=ELSEWHERE)
    assert isinstance(await refusal_of(auth, PASSWORD), FailedPrecondition)


async def test_an_unknown_address_is_throttled_alike(auth: "Auth") -> None:
    await auth.verified()
    kinds = [
        [type(error) for error in await fail(auth, 22, email=email)]
        for email in ("ada@example.com", "nobody@example.com")
    ]
    assert kinds[0] == kinds[1]
    assert [kind is ResourceExhausted for kind in kinds[0]] == [False] * 20 + [True] * 2


async def test_a_hundred_guesses_at_once_are_a_hundred_guesses(auth: "Auth") -> None:
    await auth.verified()
    errors = await asyncio.gather(
        *(auth.sign_in(password="a wrong password") for _ in range(100)), return_exceptions=True
    )
    assert sum(isinstance(error, Unauthenticated) for error in errors) == 20
    assert sum(isinstance(error, ResourceExhausted) for error in errors) == 80
    # Throttled ones are counted, not written one by one.
    assert len(await auth.events("auth.sign_in_failed")) == 20
    assert await auth.denied("RATE_LIMITED") == 80


async def test_a_password_hashed_by_other_parameters_is_hashed_anew(auth: "Auth") -> None:
    await auth.verified()
    before = await auth.database.fetchval("SELECT password_hash FROM accounts")
    auth.use_hasher(Hasher(time_cost=2, memory_kib=128, lanes=1, threads=2))
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
    auth.use_hasher(Hasher(time_cost=2, memory_kib=19 * 1024, lanes=1, threads=2), answer_seconds=0.25)
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
    for table in ("accounts", "sign_ups", "codes", "familiar_sources"):
        assert await auth.database.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert await auth.verified() != user_id


async def test_of_each_person_the_latest_installations_are_remembered(
    auth: "Auth", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "FAMILIAR_SOURCES", 5)
    await auth.verified()
    instances = [str(uuid.uuid4()) for _ in range(8)]
    for instance in instances:
        auth.clock.pass_(minutes=1)
        await auth.sign_in(instance_id=instance)
    known = [throttle.key("instance", "ada@example.com", instance) for instance in instances[-4:]]
    rows = await auth.database.fetch("SELECT key FROM familiar_sources")
    assert {row["key"] for row in rows} == {throttle.key("network", "ada@example.com", "203.0.113.0/24"), *known}


async def swept(auth: "Auth") -> None:
    """Sweeps until nothing is left to do, as the part does."""
    while await auth.retention.step():
        pass


async def test_retention_forgets_what_has_expired(auth: "Auth", monkeypatch: pytest.MonkeyPatch) -> None:
    # However much it is, no statement takes long.
    monkeypatch.setattr(retention, "BATCH", 1)
    await auth.verified()
    await auth.sign_in()
    await auth.sign_up("bob@example.com")
    await swept(auth)
    assert await auth.database.fetchval("SELECT count(*) FROM sign_ups") == 2
    auth.clock.pass_(days=2)
    await swept(auth)
    assert await auth.database.fetchval("SELECT count(*) FROM sign_ups") == 0
    assert await auth.database.fetchval("SELECT count(*) FROM buckets") == 0
    assert await auth.database.fetchval("SELECT count(*) FROM familiar_sources") == 1
    auth.clock.pass_(days=400)
    await swept(auth)
    assert await auth.database.fetchval("SELECT count(*) FROM familiar_sources") == 0
    assert (await auth.sign_in()).access_token
