"""Units of work: what is recorded leaves with the change or not at all, and a refusal keeps what was written."""

import asyncio
from contextlib import suppress

import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from authmesh.user.v1.user_directory_pb2 import CreateUserRequest

from mesh.errors import Reason, Unauthenticated
from mesh.outbox.work import Work
from mesh.storage.database import Database

METHOD = "/authmesh.user.v1.UserDirectory/CreateUser"
REFUSAL = Unauthenticated(Reason.CREDENTIALS_INVALID, "no")


async def rows(work: Work) -> list[tuple[str, str]]:
    found = await work.database.fetch("SELECT kind, destination FROM outbox ORDER BY id")
    return [(row["kind"], row["destination"]) for row in found]


async def test_what_is_recorded_is_written_in_its_order(work: Work) -> None:
    async with work.begin() as tx:
        tx.record(AuditEvent(type="auth.signed_up"))
        tx.message(email="ada@example.com", kind="verify_email", code="12345678")
        tx.command(METHOD, CreateUserRequest(user_id="ada"))
        tx.record(AuditEvent(type="auth.code_issued"))
        assert await rows(work) == []
    assert await rows(work) == [
        ("audit", "auth.signed_up"),
        ("message", "verify_email"),
        ("command", METHOD),
        ("audit", "auth.code_issued"),
    ]
    command = await work.database.fetchval("SELECT payload FROM outbox WHERE kind = 'command'")
    assert CreateUserRequest.FromString(command).user_id == "ada"


async def test_a_flush_writes_at_once_and_the_commit_writes_the_rest(work: Work) -> None:
    async with work.begin() as tx:
        tx.record(AuditEvent(type="auth.signed_up"))
        await tx.flush()
        assert await tx.fetchval("SELECT count(*) FROM outbox") == 1
        tx.record(AuditEvent(type="auth.code_issued"))
        await tx.flush()
        await tx.flush()
    assert [destination for _, destination in await rows(work)] == ["auth.signed_up", "auth.code_issued"]


async def test_an_error_takes_everything_back(work: Work) -> None:
    with pytest.raises(Unauthenticated):
        async with work.begin() as tx:
            tx.record(AuditEvent(type="auth.signed_up"))
            await tx.flush()
            raise REFUSAL
    assert await rows(work) == []


async def test_a_refusal_is_raised_and_what_was_written_stays(work: Work) -> None:
    with pytest.raises(Unauthenticated) as raised:
        async with work.begin() as tx:
            await tx.execute("CREATE TABLE written (n integer)")
            tx.record(AuditEvent(type="auth.sign_in_failed"))
            tx.refuse(REFUSAL)
    assert raised.value is REFUSAL
    assert await rows(work) == [("audit", "auth.sign_in_failed")]
    assert await work.database.fetchval("SELECT count(*) FROM written") == 0


async def test_a_refusal_can_not_be_swallowed(work: Work) -> None:
    with pytest.raises(Unauthenticated):
        async with work.begin() as tx:
            with suppress(Unauthenticated):
                tx.refuse(REFUSAL)


async def test_another_error_behind_a_refusal_takes_everything_back(work: Work) -> None:
    with pytest.raises(LookupError):
        async with work.begin() as tx:
            tx.record(AuditEvent(type="auth.sign_in_failed"))
            try:
                tx.refuse(REFUSAL)
            except Unauthenticated as error:
                raise LookupError from error
    assert await rows(work) == []


async def test_a_cancelled_unit_takes_everything_back(work: Work) -> None:
    written = asyncio.Event()

    async def change() -> None:
        async with work.begin() as tx:
            tx.record(AuditEvent(type="auth.signed_up"))
            await tx.flush()
            written.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(change())
    await written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await rows(work) == []


async def test_the_relay_is_woken_by_a_commit_only(work: Work) -> None:
    wakeup = work.outbox.wakeup()
    with suppress(Unauthenticated):
        async with work.begin() as tx:
            tx.record(AuditEvent(type="auth.signed_up"))
            raise REFUSAL
    async with work.begin():
        pass
    assert not wakeup.is_set()
    async with work.begin() as tx:
        tx.record(AuditEvent(type="auth.signed_up"))
        assert not wakeup.is_set()
    assert wakeup.is_set()


async def test_an_event_that_is_not_in_the_catalogue_is_refused_where_it_is_recorded(work: Work) -> None:
    with pytest.raises(ValueError, match=r"auth\.invented"):
        async with work.begin() as tx:
            tx.record(AuditEvent(type="auth.invented"))
    assert await rows(work) == []


async def test_what_a_unit_waits_for_is_awaited_when_its_commit_is_durable(work: Work) -> None:
    seen: list[int] = []

    async def wait() -> None:
        seen.append(len(await rows(work)))

    async with work.begin() as tx:
        tx.record(AuditEvent(type="auth.signed_up"))
        tx.afterwards["somebody"] = wait
    with pytest.raises(Unauthenticated):
        async with work.begin() as tx:
            tx.record(AuditEvent(type="auth.sign_in_failed"))
            tx.afterwards["somebody"] = wait
            tx.refuse(REFUSAL)
    with pytest.raises(LookupError):
        async with work.begin() as tx:
            tx.afterwards["somebody"] = wait
            raise LookupError
    assert seen == [1, 2]


async def test_where_no_call_is_the_origin_the_actor_is_the_one_of_the_unit(database: Database) -> None:
    async with Work(database, "auth", actor="operator").begin() as tx:
        tx.record(AuditEvent(type="auth.signed_up"))
        tx.record(AuditEvent(type="auth.signed_up", actor="users/ada"))
    found = await database.fetch("SELECT payload FROM outbox ORDER BY id")
    assert [AuditEvent.FromString(row["payload"]).actor for row in found] == ["operator", "users/ada"]
