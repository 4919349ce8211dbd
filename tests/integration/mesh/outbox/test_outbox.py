"""What must leave a service leaves, at least once and soon, if and only if its transaction was kept; whatever happens
to whom it is sent to."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import structlog.testing
from authmesh.audit.v1.audit_event_pb2 import OUTCOME_FAILURE, OUTCOME_SUCCESS, AuditEvent
from authmesh.user.v1.user_directory_pb2 import LookupUserRequest

import mesh.outbox.relay
from mesh.errors import NotFound, Reason, Unavailable
from mesh.outbox import lag, pacing
from mesh.outbox.outbox import INSERT
from mesh.outbox.relay import claim_again, claim_first
from mesh.outbox.sink import BatchResult, Entry
from mesh.outbox.sinks.commands import CommandSink
from mesh.outbox.sinks.numbering import number_events
from mesh.outbox.work import Work
from mesh.rpc.call import Call
from mesh.rpc.channel import open_channel
from mesh.rpc.errors import error_table
from mesh.storage.database import Database
from tests.kit.calls import FOUND, LOOKUP, Directory, around, served, serving, socket_path, unary
from tests.kit.outbox import Collector, count, is_empty, kinds, relaying, until
from tests.kit.plans import most_rows, plan, scans

SIGNED_IN = "auth.signed_in"


KINDS = kinds()


async def record(work: Work, number: int = 1) -> None:
    async with work.begin() as tx:
        for _ in range(number):
            tx.record(AuditEvent(type=SIGNED_IN, subject="users/ada", detail={"left_out": "1", "amr": "2"}))


async def command(work: Work, email: str = "ada@example.org", path: str = LOOKUP) -> None:
    async with work.begin() as tx:
        tx.command(path, LookupUserRequest(email=email))


async def test_entries_are_kept_with_the_change_and_only_with_it(database: Database, work: Work) -> None:
    with pytest.raises(NotFound):
        async with work.begin() as tx:
            tx.record(AuditEvent(type=SIGNED_IN))
            tx.message(email="ada@example.org", kind="verify_email", code="123456")
            tx.command(LOOKUP, LookupUserRequest())
            await tx.flush()
            assert await tx.fetchval("SELECT count(*) FROM outbox") == 3
            raise NotFound(Reason.USER_NOT_FOUND, "no")
    assert await is_empty(database)


async def test_a_transaction_that_was_rolled_back_sends_nothing_and_leaves_no_gap(
    database: Database, work: Work
) -> None:
    sink = Collector()
    async with relaying(work, sink):
        await record(work)
        with pytest.raises(NotFound):
            async with work.begin() as tx:
                tx.record(AuditEvent(type=SIGNED_IN))
                raise NotFound(Reason.USER_NOT_FOUND, "no")
        await record(work)
        await until(lambda: len(sink.taken) == 2)
    assert [event.sequence for event in sink.events] == [1, 2]


async def test_an_event_is_filled_with_what_is_known(work: Work) -> None:
    event = work.outbox.event(AuditEvent(type=SIGNED_IN))
    assert (event.source, event.outcome) == ("auth", OUTCOME_SUCCESS)
    assert event.event_id
    assert datetime.now(UTC) - event.event_time.ToDatetime(tzinfo=UTC) < timedelta(seconds=5)


async def test_what_an_event_says_itself_stays(work: Work) -> None:
    given = AuditEvent(
        type=SIGNED_IN, event_id="e", source="s", outcome=OUTCOME_FAILURE, actor="a", address="192.0.2.1"
    )
    given.event_time.FromDatetime(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert work.outbox.event(given) == given


async def test_an_event_outside_the_catalogue_is_refused(work: Work) -> None:
    with pytest.raises(ValueError, match="catalogue"):
        work.outbox.event(AuditEvent(type="auth.invented"))


async def event_of_call(work: Work, stage: Callable[[Call], None], metadata: Sequence[tuple[str, str]]) -> AuditEvent:
    events: list[AuditEvent] = []

    @asynccontextmanager
    async def prepare(call: Call) -> AsyncIterator[None]:
        stage(call)
        yield

    async def lookup(_: object) -> object:
        events.append(work.outbox.event(AuditEvent(type=SIGNED_IN)))
        return FOUND

    async with serving(Directory(lookup), stages=[error_table, around(prepare)]) as channel:
        await unary(channel, metadata=metadata)
    return events[0]


async def test_an_event_of_a_call_tells_who_from_where_and_which_call(work: Work) -> None:
    edge = [
        ("x-forwarded-client-cert", "URI=spiffe://authmesh/edge"),
        ("x-envoy-external-address", "192.0.2.1"),
        ("x-request-id", "the-id"),
    ]
    event = await event_of_call(work, lambda _: None, edge)
    assert (event.address, event.request_id, event.actor) == ("192.0.2.1", "the-id", "nodes/edge")
    assert event.user_agent
    assert len(event.trace_id) == 32


async def test_a_one_time_code_is_in_its_message_and_nowhere_else(database: Database, work: Work) -> None:
    sinks = [Collector("audit", fails=True), Collector("message", fails=True)]
    with structlog.testing.capture_logs() as logs:
        async with relaying(work, *sinks):
            async with work.begin() as tx:
                tx.message(email="ada@example.org", kind="verify_email", code="the-code")
                tx.record(AuditEvent(type="auth.code_issued", subject="users/ada"))
            await until(lambda: all(sink.seen for sink in sinks))
    rows = await database.fetch("SELECT kind, destination, encode(payload, 'escape') AS payload FROM outbox")
    assert [row["kind"] for row in rows if "the-code" in row["payload"] or "the-code" in row["destination"]] == [
        "message"
    ]
    assert logs
    assert "the-code" not in str(logs)
    assert "ada@example.org" not in str(logs)
    content = json.loads(next(row["payload"] for row in rows if row["kind"] == "message"))
    assert (content["email"], content["kind"], content["code"]) == ("ada@example.org", "verify_email", "the-code")


async def test_two_relays_at_once_number_without_a_gap_and_send_nothing_twice(
    outbox_url: str, database: Database
) -> None:
    sink = Collector()
    async with Database.open(outbox_url) as other:
        first, second = Work(database, "auth"), Work(other, "auth")
        async with relaying(first, sink), relaying(second, sink):
            await asyncio.gather(*(record(work, 3) for work in [first, second] * 20))
            await until(lambda: is_empty(database))
    assert sorted(event.sequence for event in sink.events) == list(range(1, 121))
    assert len({event.event_id for event in sink.events}) == 120


async def test_each_event_carries_the_hash_of_the_one_before_it(database: Database, work: Work) -> None:
    sink = Collector()
    async with relaying(work, sink):
        for _ in range(3):
            await record(work, 4)
        await until(lambda: is_empty(database))
    entries = sorted(sink.taken, key=lambda entry: AuditEvent.FromString(entry.payload).sequence)
    previous = b""
    for number, entry in enumerate(entries, 1):
        event = AuditEvent.FromString(entry.payload)
        assert (event.sequence, event.previous_hash) == (number, previous)
        previous = hashlib.sha256(event.SerializeToString(deterministic=True)).digest()
    assert await database.fetchval("SELECT hash FROM outbox_chain WHERE source = 'auth'") == previous


async def test_numbering_that_broke_off_leaves_nothing_numbered(
    outbox_url: str, database: Database, work: Work
) -> None:
    await record(work, 2)
    admin = await asyncpg.connect(outbox_url)
    async with admin.transaction():
        await admin.execute("LOCK outbox_chain")
        numbering = asyncio.create_task(number_events(database, "auth"))
        await until(lambda: waits_for_lock(database))
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
            "current_database() AND wait_event_type = 'Lock'"
        )
        with pytest.raises(Unavailable):
            await numbering
    await admin.close()
    assert await count(database, "sequence IS NULL") == 2
    assert await number_events(database, "auth") == 2
    assert await number_events(database, "auth") == 0


async def test_a_row_that_cannot_be_read_leaves_a_tombstone_at_its_number_and_holds_up_nothing(
    database: Database, work: Work
) -> None:
    sink = Collector()
    await record(work)
    await database.execute(INSERT, "audit", SIGNED_IN, b"\xff")
    await record(work)
    with structlog.testing.capture_logs() as logs:
        async with relaying(work, sink):
            await until(lambda: is_empty(database))
    tombstone = sink.events[1]
    assert [event.sequence for event in sink.events] == [1, 2, 3]
    assert (tombstone.type, tombstone.outcome, tombstone.source) == ("audit.parked", OUTCOME_FAILURE, "auth")
    assert dict(tombstone.detail) == {
        "type": SIGNED_IN,
        "reason": "unreadable",
        "sha256": hashlib.sha256(b"\xff").hexdigest(),
    }
    assert sink.events[2].previous_hash == hashlib.sha256(tombstone.SerializeToString(deterministic=True)).digest()
    assert [line["log_level"] for line in logs if line["event"] == "entry parked"] == ["error"]
    assert await database.fetchval("SELECT payload FROM outbox_parked WHERE sequence = 2") == b"\xff"


async def waits_for_lock(database: Database) -> bool:
    return bool(
        await database.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )


async def test_a_refused_entry_is_sent_again_alone(database: Database, work: Work) -> None:
    refused_once: set[int] = set()

    def refuses(entry: Entry) -> bool:
        if entry.id != 2 or entry.id in refused_once:
            return False
        refused_once.add(entry.id)
        return True

    sink = Collector(refuses=refuses)
    await record(work, 3)
    async with relaying(work, sink):
        await until(lambda: is_empty(database))
    assert [entry.id for entry in sink.seen] == [1, 2, 3, 2]
    assert sink.seen[3].attempts == 1


async def test_a_dead_destination_holds_up_nothing_but_its_own(database: Database, work: Work) -> None:
    sink = Collector("message")
    dead = Collector("audit", fails=True)
    async with relaying(work, dead, sink):
        for number in range(3):
            async with work.begin() as tx:
                tx.record(AuditEvent(type=SIGNED_IN))
                tx.message(email="ada@example.org", kind=f"kind{number}")
        await until(lambda: len(sink.taken) == 3, 2)
    assert await count(database, "kind = 'audit'") == 3


async def test_a_pause_doubles_and_ends_at_a_minute(database: Database, work: Work) -> None:
    pauses = [max(pacing.pause(attempts) for _ in range(50)) for attempts in range(12)]
    assert pauses[0] <= 0.5
    assert 0.5 < pauses[1] <= 1
    assert all(pause <= 60 for pause in pauses)
    assert pauses[-1] > 30
    assert pacing.pause(10**6) <= 60
    sink = Collector(fails=True)
    await record(work)
    async with relaying(work, sink):
        await until(lambda: len(sink.seen) == 2)
    assert await count(database, "next_attempt_time > now()") == 1


async def test_a_row_whose_relay_died_between_sending_and_deleting_is_sent_again_when_its_lease_is_over(
    database: Database, work: Work
) -> None:
    delivered = asyncio.Event()

    class Dying(Collector):
        async def send(self, client: Any, entries: Sequence[Entry]) -> BatchResult:
            await super().send(client, entries)
            delivered.set()
            await asyncio.Event().wait()
            return BatchResult()

    dying, sink = Dying(), Collector()
    await record(work)
    async with relaying(work, dying):
        await delivered.wait()
    async with relaying(work, sink):
        await record(work)
        await until(lambda: len(sink.taken) == 1)
        await until(lambda: only_the_leased_one(database))
        await database.execute("UPDATE outbox SET next_attempt_time = now()")
        await until(lambda: is_empty(database))
    assert sink.taken[1].payload == dying.taken[0].payload


async def only_the_leased_one(database: Database) -> bool:
    return await count(database) == await count(database, "next_attempt_time > now()") == 1


async def test_a_commit_wakes_the_relay_at_once(
    database: Database, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh.outbox.relay, "POLL_SECONDS", 60)
    sinks = [Collector("audit"), Collector("message"), Collector("command")]
    waits: dict[str, list[float]] = {sink.kind: [] for sink in sinks}
    async with relaying(work, *sinks):
        await asyncio.sleep(0)
        for number in range(1, 11):
            async with work.begin() as tx:
                tx.record(AuditEvent(type=SIGNED_IN))
                tx.message(email="ada@example.org", kind="notice")
                tx.command(LOOKUP, LookupUserRequest())
            committed = time.monotonic()
            await until(lambda number=number: all(len(sink.taken) == number for sink in sinks), 5)  # type: ignore[misc]
            for sink in sinks:
                waits[sink.kind].append(sink.times[sink.taken[-1].id] - committed)
    for kind, seconds in waits.items():
        assert sorted(seconds)[len(seconds) // 2] < 0.1, kind


async def test_no_wake_up_is_lost_however_commits_and_relay_interleave(
    database: Database, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh.outbox.relay, "POLL_SECONDS", 60)
    sink = Collector("message")

    async def write(number: int) -> None:
        for _ in range(25):
            async with work.begin() as tx:
                tx.message(email="ada@example.org", kind=f"kind{number}")

    async with relaying(work, sink):
        await asyncio.gather(*(write(number) for number in range(4)))
        await until(lambda: len(sink.taken) == 100, 5)


async def test_a_row_of_a_process_that_died_is_found_by_the_poll(database: Database, work: Work) -> None:
    sink = Collector("message")
    async with relaying(work, sink):
        async with Work(database, "auth").begin() as tx:
            tx.message(email="ada@example.org", kind="notice")
        await until(lambda: is_empty(database), 2)


async def test_a_relay_outlives_an_outage_of_the_database(outbox_url: str, database: Database, work: Work) -> None:
    sink = Collector()
    admin = await asyncpg.connect(outbox_url)
    async with relaying(work, sink):
        for _ in range(5):
            await record(work)
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
                "current_database() AND pid <> pg_backend_pid()"
            )
            await asyncio.sleep(0.05)
        await admin.execute("UPDATE outbox SET next_attempt_time = now() WHERE attempts > 0")
        await until(lambda: answers_empty(database))
    await admin.close()
    assert {event.sequence for event in sink.events} == {1, 2, 3, 4, 5}


async def answers_empty(database: Database) -> bool:
    try:
        return await is_empty(database)
    except Unavailable:
        return False


async def fill(database: Database, number: int, *, attempts: str = "0") -> None:
    """A backlog of all kinds, of which PostgreSQL has no statistics."""
    await database.execute("ANALYZE outbox")
    await database.execute(
        f"""
        INSERT INTO outbox (kind, destination, payload, sequence, attempts, next_attempt_time)
        SELECT (ARRAY['audit', 'message', 'command'])[1 + number % 3], 'x', 'x', number, {attempts},
            now() + (number / 3 % 60 - 1) * interval '1 second'
        FROM generate_series(1, $1) AS number
        """,
        number,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("analysed", [False, True])
async def test_a_claim_reads_few_rows_however_much_waits(database: Database, kind: str, analysed: bool) -> None:
    await fill(database, 30_000, attempts="CASE WHEN number % 300 < 3 THEN 1 ELSE 0 END")
    if analysed:
        await database.execute("ANALYZE outbox")
    for claim in (claim_first(KINDS[kind]), claim_again(KINDS[kind])):
        async with database.transaction() as tx:
            found = await plan(tx, claim, "double precision", "(30)")
        assert scans(found) <= {"outbox_again", "outbox_first", "outbox_oldest", "outbox_pkey"}, json.dumps(found)
        assert most_rows(found) <= 1_000, json.dumps(found, indent=1)


async def test_a_claim_of_entries_that_wait_for_their_pause_reads_none_of_those_that_were_never_sent(
    database: Database,
) -> None:
    await fill(database, 30_000)
    async with database.transaction() as tx:
        found = await plan(tx, claim_again(KINDS["command"]), "double precision", "(30)")
    assert most_rows(found) == 0, json.dumps(found, indent=1)


async def test_the_age_of_a_backlog_is_read_from_one_row_of_each_kind(database: Database) -> None:
    await fill(database, 30_000)
    async with database.transaction() as tx:
        found = await plan(tx, lag.OLDEST_BY_KIND)
    assert scans(found) == {"outbox_oldest"}, json.dumps(found)
    assert most_rows(found) <= 3, json.dumps(found, indent=1)
    assert (await lag.measure(database)).oldest_seconds.keys() == {"audit", "message", "command"}


class Backend:
    """A service that commands are sent to."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.refusing: set[str] = set()
        self.hanging: set[str] = set()

    async def lookup(self, request: LookupUserRequest) -> object:
        self.received.append(request.email)
        if request.email in self.hanging:
            await asyncio.Event().wait()
        if request.email in self.refusing:
            raise NotFound(Reason.USER_NOT_FOUND, "not yet")
        return FOUND


@pytest.fixture
async def backend() -> Backend:
    return Backend()


@pytest.fixture
def egress() -> Any:
    with socket_path() as path:
        yield path


async def test_a_command_arrives_at_once_and_is_done_when_it_was_acknowledged(
    database: Database, work: Work, backend: Backend, egress: str
) -> None:
    async with (
        served(egress, Directory(backend.lookup)),
        open_channel(egress) as channel,
        relaying(work, CommandSink(channel)),
    ):
        await command(work)
        await until(lambda: is_empty(database), 2)
    assert backend.received == ["ada@example.org"]


async def test_a_command_is_sent_until_it_is_acknowledged(
    database: Database, work: Work, backend: Backend, egress: str
) -> None:
    backend.refusing.add("ada@example.org")
    async with (
        served(egress, Directory(backend.lookup)),
        open_channel(egress) as channel,
        relaying(work, CommandSink(channel)),
    ):
        await command(work)
        await until(lambda: len(backend.received) == 2)
        assert await count(database) == 1
        backend.refusing.clear()
        await until(lambda: is_empty(database))


async def test_a_command_waits_for_a_service_that_is_away(
    database: Database, work: Work, backend: Backend, egress: str
) -> None:
    async with open_channel(egress) as channel, relaying(work, CommandSink(channel)):
        await command(work)
        await until(lambda: attempted(database))
        async with served(egress, Directory(backend.lookup)):
            await until(lambda: is_empty(database))
    assert backend.received == ["ada@example.org"]


async def attempted(database: Database) -> bool:
    return bool(await count(database, "attempts > 1"))


async def test_commands_that_never_succeed_hold_up_no_other(
    database: Database, work: Work, backend: Backend, egress: str
) -> None:
    backend.hanging = {f"{number}@example.org" for number in range(40)}
    for email in sorted(backend.hanging):
        await command(work, email)
    await database.execute("UPDATE outbox SET attempts = 3")
    async with (
        served(egress, Directory(backend.lookup)),
        open_channel(egress) as channel,
        relaying(work, CommandSink(channel)),
    ):
        await until(lambda: len(backend.received) >= 16)
        await command(work, "fresh@example.org")
        await until(lambda: "fresh@example.org" in backend.received, 1)
        await until(lambda: acknowledged(database), 1)


async def acknowledged(database: Database) -> bool:
    return await count(database) == 40


@pytest.mark.parametrize("path", ["/nobody.v1.Service/Nothing", "no path", ""])
async def test_a_command_that_nobody_understands_does_not_take_its_batch_along(
    database: Database, work: Work, backend: Backend, egress: str, path: str
) -> None:
    async with work.begin() as tx:
        tx.command(path, LookupUserRequest())
        tx.command(LOOKUP, LookupUserRequest(email="ada@example.org"))
    async with (
        served(egress, Directory(backend.lookup)),
        open_channel(egress) as channel,
        relaying(work, CommandSink(channel)),
    ):
        await until(lambda: backend.received == ["ada@example.org"])
        await until(lambda: refused_only(database))
    assert backend.received == ["ada@example.org"]


async def refused_only(database: Database) -> bool:
    return await count(database) == 1
