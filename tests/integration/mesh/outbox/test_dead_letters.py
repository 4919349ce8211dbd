"""Entries that nobody takes are put aside with an alarm; destinations that ask for less get less; the backlog's age is
there to be watched."""

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
import structlog.testing
from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from authmesh.user.v1.user_directory_pb2 import LookupUserRequest
from botocore.exceptions import ClientError

import mesh.outbox.relay
from mesh.audit import subject_keys, tombstone
from mesh.audit.personal import ERASED, key_names, reveal
from mesh.outbox import lag as backlog
from mesh.outbox import pacing
from mesh.outbox.dead_letters import PARK_AFTER
from mesh.outbox.pacing import Pace
from mesh.outbox.sink import BatchResult, Entry
from mesh.outbox.sinks.events import BYTES_PER_CALL, EventBridgeSink
from mesh.outbox.sinks.messages import MessageSink
from mesh.outbox.sinks.numbering import MAX_EVENT_BYTES, number_events
from mesh.outbox.work import Work
from mesh.storage.database import Database
from tests.kit.calls import LOOKUP
from tests.kit.chains import verifies
from tests.kit.outbox import Collector, count, is_empty, relaying, until

SIGNED_IN = "auth.signed_in"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "ENTRY_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(mesh.outbox.relay, "POLL_SECONDS", 0.02)


class Picky(Collector):
    """Refuses entries for what they are."""

    async def send(self, client: Any, entries: Sequence[Entry]) -> BatchResult:
        answer = await super().send(client, entries)
        return BatchResult(
            answer.accepted, {entry.id: "Malformed" for entry in entries if entry.id not in answer.accepted}
        )


async def record(work: Work, *names: str, detail: str = "") -> None:
    async with work.begin() as tx:
        for name in names:
            tx.record(AuditEvent(type=SIGNED_IN, actor=name, detail={"amr": detail or name}))


async def test_an_event_that_is_refused_again_and_again_leaves_a_tombstone_that_a_chained_statement_vouches_for(
    database: Database, work: Work
) -> None:
    sink = Picky(refuses=lambda entry: b"poison" in entry.payload)
    await record(work, "a", "poison", "b")
    with structlog.testing.capture_logs() as logs:
        async with relaying(work, sink):
            await until(lambda: is_empty(database))
    events = sorted(sink.events, key=lambda event: event.sequence)
    assert [event.type for event in events] == [SIGNED_IN, tombstone.PARKED, SIGNED_IN, tombstone.STATEMENT]
    assert dict(events[1].detail) | {tombstone.REPLACES: ""} == {
        "type": SIGNED_IN,
        "reason": "Malformed",
        tombstone.REPLACES: "",
    }
    assert verifies(events)
    assert tombstone.parking(events[3]) == tombstone.Parking(2, events[2].previous_hash, tombstone.digest(events[1]))
    assert sum(b"poison" in entry.payload for entry in sink.seen) == PARK_AFTER
    parked = await database.fetchrow("SELECT * FROM outbox_parked")
    assert parked is not None
    assert AuditEvent.FromString(parked["payload"]).actor == "poison"
    assert (parked["sequence"], parked["reason"]) == (2, "Malformed")
    assert [line["log_level"] for line in logs if line["event"] == "entry parked"] == ["error"]


async def test_neither_a_tombstone_nor_its_statement_is_parked_however_often_it_is_refused(
    database: Database, work: Work
) -> None:
    await record(work, "a", "b")
    refusing = [True]
    sink = Picky(
        refuses=lambda entry: (
            refusing[0] and (b"poison" in entry.payload or entry.destination in (tombstone.PARKED, tombstone.STATEMENT))
        )
    )
    await record(work, "poison")
    async with relaying(work, sink):

        async def refused_more_often_than_others_are() -> bool:
            return await count(database, f"refusals > {PARK_AFTER}") == 2

        await until(refused_more_often_than_others_are)
        refusing[0] = False
        await until(lambda: is_empty(database))
    assert await database.fetchval("SELECT count(*) FROM outbox_parked") == 1
    assert [event.type for event in sorted(sink.events, key=lambda event: event.sequence)] == [
        SIGNED_IN, SIGNED_IN, tombstone.PARKED, tombstone.STATEMENT,
    ]  # fmt: skip


async def test_an_event_that_is_too_large_is_parked_before_it_is_numbered(database: Database, work: Work) -> None:
    sink = Collector()
    await record(work, "a")
    await record(work, "b", detail="x" * (MAX_EVENT_BYTES + 1))
    await record(work, "c")
    async with relaying(work, sink):
        await until(lambda: is_empty(database))
    events = sorted(sink.events, key=lambda event: event.sequence)
    assert [(event.type, event.detail.get("reason", "")) for event in events] == [
        (SIGNED_IN, ""),
        (tombstone.PARKED, "too_large"),
        (SIGNED_IN, ""),
    ]
    assert tombstone.REPLACES not in events[1].detail
    assert verifies(events)


async def test_what_is_personal_in_a_parked_event_can_be_erased(database: Database, work: Work) -> None:
    async with work.begin() as tx:
        detail = {"amr": "x" * (MAX_EVENT_BYTES + 1)}
        tx.record(AuditEvent(type=SIGNED_IN, subject="users/ada", address="192.0.2.1", detail=detail))
    await number_events(database, "auth")
    parked = AuditEvent.FromString(await database.fetchval("SELECT payload FROM outbox_parked"))
    assert parked.address == ""
    assert reveal(parked, await subject_keys.held(database, key_names(parked))).address == "192.0.2.1"
    async with work.begin() as tx:
        await subject_keys.erase(tx, "users/ada")
    assert reveal(parked, await subject_keys.held(database, key_names(parked))).address == ERASED


NEWER = b"\xb8\x3e\x01"
"""A field of a later release."""


async def test_an_event_of_a_newer_release_is_left_to_that(database: Database, work: Work) -> None:
    await record(work, "a", "b")
    await database.execute("UPDATE outbox SET payload = payload || $1 WHERE id = (SELECT max(id) FROM outbox)", NEWER)
    sink = Collector()
    async with relaying(work, sink):
        await until(lambda: len(sink.events) == 1)
        await asyncio.sleep(0.1)
    # Neither sent nor numbered: a personal field that is not known could not be sealed.
    assert [event.sequence for event in sink.events] == [1]
    assert await count(database, "sequence IS NULL AND refusals = 0") == 1


async def test_an_event_that_a_newer_release_has_numbered_is_not_sent_without_its_new_field() -> None:
    calls: list[int] = []

    class Bus:
        async def put_events(self, **request: Any) -> Any:
            calls.append(len(request["Entries"]))
            return {"Entries": [{"EventId": "x"} for _ in request["Entries"]]}

    payload = AuditEvent(source="auth", sequence=1, type=SIGNED_IN).SerializeToString()
    entries = [Entry(1, SIGNED_IN, payload, 0), Entry(2, SIGNED_IN, payload + NEWER, 0)]
    sink = EventBridgeSink(lambda: contextlib.nullcontext(), "bus")
    assert await sink.send(Bus(), entries) == BatchResult(accepted=[1], refused={})
    assert await sink.send(Bus(), entries[1:]) == BatchResult(accepted=[], refused={})
    assert calls == [1]


async def test_an_event_without_a_possible_time_holds_up_nothing(database: Database, work: Work) -> None:
    sink = Collector()
    impossible = AuditEvent(type=SIGNED_IN, source="auth")
    impossible.event_time.seconds = 10**15
    async with work.begin() as tx:
        tx.record(impossible)
    await record(work, "a")
    async with relaying(work, sink):
        await until(lambda: is_empty(database))
    assert [(event.type, event.detail.get("reason", "")) for event in sink.events] == [
        (tombstone.PARKED, "unreadable"),
        (SIGNED_IN, ""),
    ]


async def test_a_parked_message_keeps_neither_its_code_nor_its_address(database: Database, work: Work) -> None:
    async with work.begin() as tx:
        tx.message(email="ada@example.org", kind="verify_email", code="the-code")
    async with relaying(work, Picky("message", refuses=lambda _: True)):
        await until(lambda: is_empty(database))
    parked = await database.fetchrow("SELECT * FROM outbox_parked")
    assert parked is not None
    assert (parked["destination"], parked["payload"]) == ("verify_email", b"")


async def test_a_command_is_never_parked(database: Database, work: Work) -> None:
    sink = Picky("command", refuses=lambda _: True)
    async with work.begin() as tx:
        tx.command(LOOKUP, LookupUserRequest())
    async with relaying(work, sink):
        await until(lambda: len(sink.seen) > PARK_AFTER + 1)
    assert await count(database) == 1


async def test_a_tombstone_that_is_refused_itself_is_not_buried_again(database: Database, work: Work) -> None:
    sink = Picky(refuses=lambda _: True)
    await record(work, "poison")
    async with relaying(work, sink):
        await until(lambda: len(sink.seen) > 2 * PARK_AFTER + 1)
    assert await database.fetchval("SELECT count(*) FROM outbox_parked") == 1
    assert await count(database, "destination = 'audit.parked'") == 1


async def test_a_destination_that_fails_as_a_whole_is_not_hurried_by_new_entries(
    database: Database, work: Work
) -> None:
    class Counting(Collector):
        calls = 0

        async def send(self, client: Any, entries: Sequence[Entry]) -> BatchResult:
            self.calls += 1
            return await super().send(client, entries)

    sink = Counting("message", fails=True)
    async with relaying(work, sink):
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            async with work.begin() as tx:
                tx.message(email="ada@example.org", kind="notice")
        assert sink.calls <= 5
        sink.fails = False
        await until(lambda: is_empty(database))


def test_pauses_of_a_destination_double_up_to_ten_seconds_and_end_with_a_success() -> None:
    pace = Pace()
    assert pace.pause == 0
    pauses = []
    for _ in range(12):
        pace.slow_down()
        pauses.append(pace.pause)
    assert pauses[0] <= 0.25
    assert 4 < pauses[-1] <= pacing.DESTINATION_SECONDS[1]
    pace.speed_up()
    pace.slow_down()
    assert pace.pause <= 0.25


async def test_the_age_of_what_waits_is_reported_as_a_metric(database: Database, work: Work) -> None:
    await record(work, "a")
    await database.execute("UPDATE outbox SET create_time = now() - interval '5 minutes'")
    measured = await backlog.measure(database)
    assert 299 < measured.oldest_seconds["audit"] < 310
    with structlog.testing.capture_logs() as logs:
        backlog.report("auth", measured)
    (line,) = logs
    (metrics,) = line["_aws"]["CloudWatchMetrics"]
    assert all(isinstance(line[metric["Name"]], int | float) for metric in metrics["Metrics"])
    assert metrics["Dimensions"] == [["Service"], []]
    json.dumps(line)


async def test_nothing_waits_in_an_empty_outbox(database: Database) -> None:
    assert await backlog.measure(database) == backlog.Backlog({}, 0)


class Aws:
    """EventBridge and SNS as they treat a call in which one entry is wrong: they refuse all of it."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    async def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - the API's name
        return {"Entries": [{"EventId": "1"} for _ in self._check([entry["Detail"] for entry in Entries])]}

    async def publish_batch(self, TopicArn: str, PublishBatchRequestEntries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        self._check([entry["Message"] for entry in PublishBatchRequestEntries])
        return {"Successful": [{"Id": entry["Id"]} for entry in PublishBatchRequestEntries]}

    def _check(self, texts: list[str]) -> list[str]:
        self.calls.append(texts)
        if any("poison" in text for text in texts):
            raise ClientError({"Error": {"Code": "ValidationException", "Message": "no"}}, "Call")
        return texts


def event(number: int, text: str) -> Entry:
    made = AuditEvent(type=SIGNED_IN, source="auth", sequence=number, actor=text)
    made.event_time.GetCurrentTime()
    return Entry(number, SIGNED_IN, made.SerializeToString(), 0)


async def test_one_entry_that_spoils_a_call_is_found_and_the_others_leave() -> None:
    bus: Any = EventBridgeSink(lambda: None, "bus")  # type: ignore[arg-type,return-value]
    answer = await bus.send(Aws(), [event(1, "a"), event(2, "poison"), event(3, "b")])
    assert (list(answer.accepted), dict(answer.refused)) == ([1, 3], {2: "ValidationException"})
    topic: Any = MessageSink(lambda: None, "topic")  # type: ignore[arg-type,return-value]
    answer = await topic.send(Aws(), [Entry(number, "kind", text, 0) for number, text in enumerate([b"a", b"poison"])])
    assert (list(answer.accepted), dict(answer.refused)) == ([0], {1: "ValidationException"})


async def test_calls_are_no_larger_than_the_bus_takes() -> None:
    aws = Aws()
    bus: Any = EventBridgeSink(lambda: None, "bus")  # type: ignore[arg-type,return-value]
    answer = await bus.send(aws, [event(number, "x" * 100_000) for number in range(10)])
    assert list(answer.accepted) == list(range(10))
    assert [len(call) for call in aws.calls] == [2] * 5
    assert all(sum(map(len, call)) < BYTES_PER_CALL for call in aws.calls)


@pytest.mark.parametrize(
    ("code", "refused", "throttled"),
    [("ThrottlingException", [], True), ("InternalFailure", [], False), ("MalformedDetail", [2], False)],
)
async def test_a_refusal_counts_against_an_entry_only_if_it_is_about_the_entry(
    code: str, refused: list[int], throttled: bool
) -> None:
    class Answering:
        async def put_events(self, **_: Any) -> dict[str, Any]:
            return {"Entries": [{"EventId": "1"}, {"ErrorCode": code}]}

    bus: Any = EventBridgeSink(lambda: None, "bus")  # type: ignore[arg-type,return-value]
    answer = await bus.send(Answering(), [event(1, "a"), event(2, "b")])
    assert (list(answer.accepted), list(answer.refused), answer.throttled) == ([1], refused, throttled)


async def test_a_relay_starts_with_its_backlog_watch(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "EVERY_SECONDS", 0.01)
    with structlog.testing.capture_logs() as logs:
        async with relaying(work):
            await until(lambda: any(line["event"] == "outbox backlog" for line in logs))
            await asyncio.sleep(0)
