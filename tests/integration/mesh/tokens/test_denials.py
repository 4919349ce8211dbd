"""Refusals on record, on a real outbox: each of the first, the number of the others, and nothing without bound."""

import asyncio
import uuid

import pytest
from authmesh.audit.v1 import audit_event_pb2

from mesh.errors import Unavailable
from mesh.outbox.work import Work
from mesh.storage.database import Database
from mesh.tokens import denials as denials_module
from mesh.tokens.denials import EACH, Denials

ALICE, BOB = f"users/{uuid.uuid4()}", f"users/{uuid.uuid4()}"
LOOP = 500


@pytest.fixture
def denials(database: Database) -> Denials:
    return Denials(Work(database, "token"))


def refusal(caller: str, reason: str = "SCOPE_MISSING", method: str = "/x/A") -> audit_event_pb2.AuditEvent:
    return audit_event_pb2.AuditEvent(type="access.denied", reason=reason, subject=caller, detail={"method": method})


async def events(database: Database) -> list[audit_event_pb2.AuditEvent]:
    rows = await database.fetch("SELECT payload FROM outbox WHERE kind = 'audit' ORDER BY id")
    return [audit_event_pb2.AuditEvent.FromString(row["payload"]) for row in rows]


async def eventually_written(database: Database, number: int) -> list[audit_event_pb2.AuditEvent]:
    async with asyncio.timeout(10):
        while len(found := await events(database)) < number:
            await asyncio.sleep(0.01)
    return found


async def test_a_caller_in_a_loop_costs_a_few_rows_and_every_refusal_is_counted(
    database: Database, denials: Denials
) -> None:
    for number in range(LOOP):
        await denials.record(refusal(ALICE, "SCOPE_MISSING" if number % 5 else "ROLE_MISSING", f"/x/{number}"))
    written = await events(database)
    assert [event.detail["method"] for event in written] == [f"/x/{number}" for number in range(EACH)]
    assert {event.outcome for event in written} == {audit_event_pb2.OUTCOME_FAILURE}
    await denials.flush()
    left_out = {event.reason: event for event in (await events(database))[EACH:]}
    assert sum(int(event.detail["left_out"]) for event in left_out.values()) == LOOP - EACH
    # The latest one stands for the others.
    assert left_out["SCOPE_MISSING"].detail["method"] == f"/x/{LOOP - 1}"
    assert left_out["ROLE_MISSING"].subject == ALICE


async def test_a_hundred_at_once_are_a_hundred(database: Database, denials: Denials) -> None:
    await asyncio.gather(*(denials.record(refusal(ALICE)) for _ in range(100)))
    assert len(await events(database)) == EACH
    await denials.flush()
    assert (await events(database))[-1].detail["left_out"] == str(100 - EACH)


async def test_one_caller_s_loop_hides_nobody_else_s_refusal(database: Database, denials: Denials) -> None:
    for _ in range(50):
        await denials.record(refusal(ALICE))
    await denials.record(refusal(BOB))
    assert (await events(database))[-1].subject == BOB


async def test_a_new_minute_begins_anew(database: Database, denials: Denials) -> None:
    for _ in range(2):
        for _ in range(EACH):
            await denials.record(refusal(ALICE))
        await denials.flush()
    assert len(await events(database)) == 2 * EACH


async def test_while_it_runs_the_numbers_are_written_without_being_asked_for(
    database: Database, denials: Denials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denials_module, "WINDOW_SECONDS", 0.2)
    running = asyncio.create_task(denials.run())
    for _ in range(30):
        await denials.record(refusal(ALICE))
    found = await eventually_written(database, EACH + 1)
    assert sum(int(event.detail.get("left_out", 1)) for event in found) == 30
    running.cancel()
    await asyncio.wait([running])


async def test_what_is_counted_is_written_when_the_process_stops(database: Database, denials: Denials) -> None:
    running = asyncio.create_task(denials.run())
    for _ in range(30):
        await denials.record(refusal(ALICE))
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert (await events(database))[-1].detail["left_out"] == str(30 - EACH)


async def test_many_callers_end_the_minute_early(
    database: Database, denials: Denials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denials_module, "CALLERS", 3)
    running = asyncio.create_task(denials.run())
    for caller in ("users/1", "users/2"):
        for _ in range(EACH + 5):
            await denials.record(refusal(caller))
    await denials.record(refusal("users/3"))
    # Without waiting for a minute to end.
    found = await eventually_written(database, 2 * EACH + 1 + 2)
    assert {event.subject for event in found if event.detail["left_out"] == "5"} == {"users/1", "users/2"}
    running.cancel()
    await asyncio.wait([running])


async def test_what_cannot_be_written_now_is_written_later(
    database: Database, denials: Denials, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(20):
        await denials.record(refusal(ALICE))

    async def away(*_: object) -> None:
        raise Unavailable("DEPENDENCY_UNAVAILABLE", "test")  # type: ignore[arg-type]

    with monkeypatch.context() as outage:
        outage.setattr(denials, "_write", away)
        with pytest.raises(Unavailable):
            await denials.flush()
        # A caller whose refusal can't be put on record is not told the refusal.
        with pytest.raises(Unavailable):
            await denials.record(refusal(BOB))
    for _ in range(EACH + 5):
        await denials.record(refusal(ALICE))
    await denials.flush()
    assert (await events(database))[-1].detail["left_out"] == str(20 - EACH + 5)
