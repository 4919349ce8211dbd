"""The one outbox mechanism: what must leave a service is a row in the transaction of the change, and leaves afterwards.

Three kinds: `audit` (events, numbered and chained, to EventBridge), `message` (to people, to SNS) and `command` (to
other services, by RPC). An RPC never waits for any of them. Delivery is at least once: a row is claimed by a lease,
sent, and deleted when it was accepted; whoever dies in between leaves a lease that runs out.
"""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog
from authmesh.audit.v1 import audit_event_pb2
from google.protobuf.message import Message

from mesh.audit import subject_keys
from mesh.audit.chain import number_events
from mesh.errors import Unavailable
from mesh.ids import uuid7
from mesh.model.event_types import EVENT_TYPES
from mesh.origin import current_origin
from mesh.outbox import dead_letters as parking
from mesh.outbox import lag as backlog
from mesh.outbox.delivery import BatchResult, Pace
from mesh.storage.database import Database, Transaction

POLL_SECONDS = 0.25
"""How soon a row is found whose process died before it could wake its relay."""
LEASE_SECONDS = 30
"""How long a claimed row is left to its claimer: longer than any send may take."""
BACKOFF_SECONDS = (0.5, 60.0)
"""First and longest pause before a row is tried again."""

TABLES = (
    """
    CREATE TABLE outbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind text NOT NULL CHECK (kind IN ('audit', 'message', 'command')),
        destination text NOT NULL,
        payload bytea NOT NULL,
        sequence bigint,
        attempts integer NOT NULL DEFAULT 0,
        create_time timestamptz NOT NULL DEFAULT now(),
        next_attempt_time timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX outbox_due ON outbox (kind, next_attempt_time, id)",
    "CREATE INDEX outbox_unnumbered ON outbox (id) WHERE kind = 'audit' AND sequence IS NULL",
    """
    CREATE TABLE outbox_chain (
        source text PRIMARY KEY,
        sequence bigint NOT NULL DEFAULT 0,
        hash bytea NOT NULL DEFAULT ''
    )
    """,
)

FIRST_INDEX = (
    "CREATE INDEX outbox_first ON outbox (kind, id) WHERE attempts = 0 AND (kind <> 'audit' OR sequence IS NOT NULL)"
)
"""Exactly what `CLAIM_FIRST` takes, in its order."""

INSERT = "INSERT INTO outbox (kind, destination, payload) VALUES ($1, $2, $3)"

_CLAIM = """
WITH due AS MATERIALIZED (
    SELECT id FROM outbox
    WHERE kind = $1 AND {which} AND (kind <> 'audit' OR sequence IS NOT NULL)
    ORDER BY {order} LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE outbox SET attempts = attempts + 1, next_attempt_time = now() + make_interval(secs => $3)
FROM due WHERE outbox.id = due.id
RETURNING outbox.id, destination, payload, attempts
"""
_NEAR_THE_FIRST = """
attempts = 0 AND id < 1000 + (SELECT min(id) FROM outbox WHERE kind = $1 AND attempts = 0
    AND (kind <> 'audit' OR sequence IS NOT NULL))
"""
# Whatever the planner believes of a backlog that grew since the last ANALYZE, it sorts a thousand rows at most, and not
# all of them for every batch.
CLAIM_FIRST = _CLAIM.format(which=_NEAR_THE_FIRST, order="id")
"""Takes rows that were never sent: of kind $1, at most $2, for $3 seconds."""
CLAIM_AGAIN = _CLAIM.format(which="attempts > 0 AND next_attempt_time <= now()", order="next_attempt_time, id")
"""Takes rows whose pause or lease is over, the longest waiting first."""

_log = structlog.get_logger("authmesh.outbox")


def create_tables(op: Any) -> None:
    """Makes the outbox in a service's first migration. `op` is `alembic.op`."""
    for statement in TABLES:
        op.execute(statement)


def create_pipeline_tables(op: Any) -> None:
    """Makes in a service's migration what the outbox got later: an index for backlogs, a place for entries that nobody
    takes, and the keys of personal data.
    """
    op.execute(FIRST_INDEX)
    parking.create_tables(op)
    subject_keys.create_tables(op)


@dataclass(frozen=True, slots=True)
class Entry:
    """A row on its way out."""

    id: int
    destination: str
    """The event's type, the message's kind, or the command's method path."""
    payload: bytes
    attempts: int
    """How often it was sent before this time."""


class Sink(Protocol):
    """Where one kind of entries goes."""

    kind: str
    batch: int
    """The most entries that `send` takes."""

    def connect(self) -> AbstractAsyncContextManager[Any]:
        """What `send` needs, open for as long as the relay runs."""

    async def send(self, client: Any, entries: Sequence[Entry]) -> BatchResult:
        """Sends entries. Returns what became of them; those that were not accepted are sent again."""


class Outbox:
    """Writes entries into transactions, for one service."""

    def __init__(self, source: str) -> None:
        """Args:
        source: The service's name, the `source` of its audit events.
        """
        self.source = source
        self._wakeups: list[asyncio.Event] = []

    def event(self, event: audit_event_pb2.AuditEvent) -> audit_event_pb2.AuditEvent:
        """A copy of `event` with its id, source and time, and what the current call tells: actor, client, session,
        address, request and trace id. Set fields stay.

        Raises:
            ValueError: the type is not in the catalogue.
        """
        if event.type not in EVENT_TYPES:
            raise ValueError(f"{event.type!r} is no event of the catalogue (authmesh.audit.v1.EventType)")
        filled = audit_event_pb2.AuditEvent()
        filled.CopyFrom(event)
        origin = current_origin()
        for field, value in {
            "event_id": str(uuid7()),
            "source": self.source,
            **(origin.event_fields() if origin else {}),
        }.items():
            if not getattr(filled, field):
                setattr(filled, field, value)
        if not filled.HasField("event_time"):
            filled.event_time.FromDatetime(datetime.now(UTC))
        if filled.outcome == audit_event_pb2.OUTCOME_UNSPECIFIED:
            filled.outcome = audit_event_pb2.OUTCOME_SUCCESS
        return filled

    async def record(self, tx: Transaction, event: audit_event_pb2.AuditEvent) -> None:
        """Writes an audit event into the transaction of the change that it tells of."""
        await self._add(tx, "audit", event.type, self.event(event).SerializeToString(deterministic=True))

    async def message(
        self,
        tx: Transaction,
        *,
        email: str,
        kind: str,
        code: str = "",
        display_name: str = "",
        facts: Mapping[str, str] | None = None,
    ) -> None:
        """Writes a message to a person.

        Args:
            tx: The transaction of what it tells of.
            email: To whom.
            kind: Names the letter (`services/mail/letters`): `verify_email`.
            code: A one-time code, or empty.
            display_name: Of the person, or empty.
            facts: What the letter says beside the code, by name: `device`.
        """
        content = {
            "email": email,
            "kind": kind,
            "code": code,
            "display_name": display_name,
            "facts": dict(facts or {}),
            "sent_time": datetime.now(UTC).isoformat(),
        }
        await self._add(tx, "message", kind, json.dumps(content).encode())

    async def command(self, tx: Transaction, method: str, request: Message) -> None:
        """Writes a command to another service. `method` is the path of an idempotent internal RPC: it is called until
        it was acknowledged.
        """
        await self._add(tx, "command", method, request.SerializeToString())

    async def _add(self, tx: Transaction, kind: str, destination: str, payload: bytes) -> None:
        await tx.execute(INSERT, kind, destination, payload)
        tx.after_commit[self.wake] = None

    def wake(self) -> None:
        """Tells this process's relay that there is something to send. Rows of a transaction do it by themselves."""
        for wakeup in self._wakeups:
            wakeup.set()

    def wakeup(self) -> asyncio.Event:
        """An event that `wake` sets, for a relay."""
        self._wakeups.append(asyncio.Event())
        return self._wakeups[-1]


class Relay:
    """Sends what is in the outbox. Each kind has two lanes, a task each: a dead destination holds up nothing but its
    own, and entries that were refused before hold up none that are new.
    """

    def __init__(self, database: Database, outbox: Outbox, sinks: Sequence[Sink]) -> None:
        self._database = database
        self._outbox = outbox
        self._sinks = sinks

    async def run(self) -> None:
        """Relays for ever. A task of the server; cancel it at any moment, nothing is lost."""
        async with asyncio.TaskGroup() as group:
            group.create_task(backlog.watch(self._database, self._outbox.source))
            group.create_task(subject_keys.forget_days(self._database))
            for sink in self._sinks:
                group.create_task(self._serve(sink))

    async def _serve(self, sink: Sink) -> None:
        pace = Pace()
        async with sink.connect() as client, asyncio.TaskGroup() as lanes:
            lanes.create_task(self._lane(sink, client, CLAIM_FIRST, self._outbox.wakeup(), pace))
            # Nothing wakes this one: whatever it sends has a pause behind it.
            lanes.create_task(self._lane(sink, client, CLAIM_AGAIN, asyncio.Event(), pace))

    async def _lane(self, sink: Sink, client: Any, claim: str, wakeup: asyncio.Event, pace: Pace) -> None:
        while True:
            await asyncio.sleep(pace.pause)
            wakeup.clear()
            try:
                sent = await self._pass(sink, client, claim, pace)
            except Unavailable:
                sent = 0
            if not sent:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await wakeup.wait()

    async def _pass(self, sink: Sink, client: Any, claim: str, pace: Pace) -> int:
        """Sends one batch. Returns how many entries left."""
        if sink.kind == "audit" and claim is CLAIM_FIRST:
            await number_events(self._database, self._outbox.source)
        entries = await self._claim(sink, claim)
        if not entries:
            return 0
        try:
            async with asyncio.timeout(LEASE_SECONDS / 2):
                delivery = await sink.send(client, entries)
        except Exception as error:  # noqa: BLE001 - whatever a destination does, the entries stay and are sent again
            _log.warning("not delivered", kind=sink.kind, entries=len(entries), error=type(error).__name__)
            delivery = BatchResult(throttled=True)
        if delivery.throttled:
            pace.slow_down()
        elif delivery.accepted:
            pace.speed_up()
        await self._settle(entries, delivery)
        return len(delivery.accepted)

    async def _claim(self, sink: Sink, claim: str) -> list[Entry]:
        rows = await self._database.fetch(claim, sink.kind, sink.batch, float(LEASE_SECONDS))
        return sorted(
            (Entry(row["id"], row["destination"], row["payload"], row["attempts"] - 1) for row in rows),
            key=lambda entry: entry.id,
        )

    async def _settle(self, entries: Sequence[Entry], delivery: BatchResult) -> None:
        accepted = set(delivery.accepted)
        waiting = [entry for entry in entries if entry.id not in accepted]
        if accepted:
            await self._database.execute("DELETE FROM outbox WHERE id = ANY($1::bigint[])", list(accepted))
        if waiting:
            await self._database.execute(
                """
                UPDATE outbox SET next_attempt_time = now() + make_interval(secs => later.pause)
                FROM unnest($1::bigint[], $2::double precision[]) AS later (id, pause) WHERE outbox.id = later.id
                """,
                [entry.id for entry in waiting],
                [_pause(entry.attempts) for entry in waiting],
            )
        if delivery.refused:
            await parking.count_refusals(self._database, delivery.refused)


def _pause(attempts: int) -> float:
    """Seconds until the next attempt: doubling, with jitter, so that a destination that comes back is not met by
    everything at once.
    """
    first, longest = BACKOFF_SECONDS
    return float(min(longest, first * 2 ** min(attempts, 10)) * random.uniform(0.5, 1.0))
