"""The sink that sends audit events to EventBridge, numbered and chained (`mesh.outbox.sinks.numbering`)."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC
from functools import partial
from typing import Any, Self

from authmesh.audit.v1 import audit_event_pb2
from google.protobuf import json_format

from mesh.audit import subject_keys, tombstone
from mesh.aws import open_client
from mesh.errors import Unavailable
from mesh.outbox.sink import BatchResult, DeadLetter, Entry, Sink, join
from mesh.outbox.sinks.aws_errors import is_malformed, is_passing, is_throttling, send_apart
from mesh.outbox.sinks.numbering import is_known, number_events
from mesh.outbox.work import Work
from mesh.settings import EventSettings

ENTRIES_PER_CALL = 10
"""PutEvents takes at most ten."""
BYTES_PER_CALL = 256 * 1024
"""And no more than this of all entries together."""
FORGET_SECONDS = 3600.0
"""How often keys whose time is over are thrown away."""

_Numbered = tuple[int, dict[str, Any]]
"""An outbox id and its PutEvents entry."""


class EventBridgeSink(Sink):
    """Delivers numbered audit events to the bus.

    `Source` is `authmesh.<service>`, `DetailType` the event's type, `Detail` its proto3 JSON.
    """

    kind = "audit"
    batch = ENTRIES_PER_CALL
    ready = "sequence IS NOT NULL"

    def __init__(self, open_events: Callable[[], AbstractAsyncContextManager[Any]], bus: str) -> None:
        """Initializes the instance.

        Args:
            open_events: Opens a client of the `events` API.
            bus: The bus's name.
        """
        self._open = open_events
        self._bus = bus
        self._forget_at = time.monotonic()

    @classmethod
    def of(cls, settings: EventSettings) -> Self:
        """The sink of a service."""
        return cls(partial(open_client, "events", settings), settings.event_bus)

    async def prepare(self, work: Work) -> None:
        """Numbers, chains and seals new events; now and then throws away the keys of days that are over."""
        await number_events(work.database, work.outbox.source)
        if time.monotonic() >= self._forget_at:
            self._forget_at = time.monotonic() + FORGET_SECONDS
            with suppress(Unavailable):
                await subject_keys.forget_days(work.database)

    def connect(self) -> AbstractAsyncContextManager[Any]:
        """A client, for as long as the relay runs."""
        return self._open()

    async def send(self, client: Any, entries: Sequence[Entry]) -> BatchResult:
        """Puts the events, in as many calls as their size asks for.

        Those that EventBridge refused stay behind and are tried again alone, later; those of a newer release are left
        to it.
        """
        events = [(entry.id, audit_event_pb2.AuditEvent.FromString(entry.payload)) for entry in entries]
        answers = [
            await self._put(client, part)
            for part in _calls([(number, self._entry(event)) for number, event in events if is_known(event)])
        ]
        return join(answers)

    def on_dead_letter(self, entry: Entry, reason: str) -> DeadLetter | None:
        """Keeps the event in its sealed form.

        A tombstone takes its number, and a statement at the end of the chain vouches for the tombstone. These two are
        sent until they are taken: without them the chain has a gap, or a tombstone that no one believes.
        """
        if entry.destination in (tombstone.PARKED, tombstone.STATEMENT):
            return None
        stone = tombstone.numbered(audit_event_pb2.AuditEvent.FromString(entry.payload), reason)
        return DeadLetter(entry.payload, _written(stone), _written(tombstone.statement(stone)))

    def _entry(self, event: audit_event_pb2.AuditEvent) -> dict[str, Any]:
        return {
            "EventBusName": self._bus,
            "Source": f"authmesh.{event.source}",
            "DetailType": event.type,
            "Time": event.event_time.ToDatetime(tzinfo=UTC),
            "Detail": json_format.MessageToJson(event, indent=None),
        }

    async def _put(self, client: Any, part: Sequence[_Numbered]) -> BatchResult:
        from botocore.exceptions import ClientError

        try:
            answer = await client.put_events(Entries=[entry for _, entry in part])
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if not is_malformed(code):
                raise
            if len(part) == 1:
                return BatchResult(refused={part[0][0]: code})
            # One of them spoils the call: the others shall not wait for it.
            return await send_apart(part, lambda alone: self._put(client, alone))
        results = list(zip((number for number, _ in part), answer["Entries"], strict=True))
        failed = {number: result.get("ErrorCode", "") for number, result in results if "EventId" not in result}
        return BatchResult(
            accepted=[number for number, result in results if "EventId" in result],
            refused={number: code for number, code in failed.items() if code and not is_passing(code)},
            throttled=any(is_throttling(code) for code in failed.values()),
        )


def _written(event: audit_event_pb2.AuditEvent) -> tuple[str, bytes]:
    return event.type, event.SerializeToString(deterministic=True)


def _calls(entries: Sequence[_Numbered]) -> list[list[_Numbered]]:
    """Entries as calls that are not larger than PutEvents takes."""
    calls: list[list[_Numbered]] = []
    room = 0
    for numbered in entries:
        size = _size(numbered[1])
        if not calls or size > room:
            calls.append([])
            room = BYTES_PER_CALL
        calls[-1].append(numbered)
        room -= size
    return calls


def _size(entry: dict[str, Any]) -> int:
    """As EventBridge counts it: 14 bytes of time, and the UTF-8 of source, type and detail."""
    return 14 + sum(len(entry[name].encode()) for name in ("Source", "DetailType", "Detail"))
