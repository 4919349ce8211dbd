"""The sink that sends audit events to EventBridge."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC
from typing import Any

from authmesh.audit.v1 import audit_event_pb2
from google.protobuf import json_format

from mesh.audit.chain import is_known
from mesh.outbox.delivery import BatchResult, is_malformed, is_passing, is_throttling, join, send_apart
from mesh.outbox.outbox import Entry

ENTRIES_PER_CALL = 10
"""PutEvents takes at most ten."""
BYTES_PER_CALL = 256 * 1024
"""And no more than this of all entries together."""

_Numbered = tuple[int, dict[str, Any]]
"""An outbox id and its PutEvents entry."""


class EventBridgeSink:
    """Delivers numbered audit events to the bus. `Source` is `authmesh.<service>`, `DetailType` the event's type,
    `Detail` its proto3 JSON.
    """

    kind = "audit"
    batch = ENTRIES_PER_CALL

    def __init__(self, open_events: Callable[[], AbstractAsyncContextManager[Any]], bus: str) -> None:
        """Args:
        open_events: Opens a client of the `events` API.
        bus: The bus's name.
        """
        self._open = open_events
        self._bus = bus

    def connect(self) -> AbstractAsyncContextManager[Any]:
        """A client, for as long as the relay runs."""
        return self._open()

    async def send(self, client: Any, entries: Sequence[Entry]) -> BatchResult:
        """Puts the events, in as many calls as their size asks for. Those that EventBridge refused stay behind and are
        tried again alone, later; those of a newer release are left to it.
        """
        events = [(entry.id, audit_event_pb2.AuditEvent.FromString(entry.payload)) for entry in entries]
        answers = [
            await self._put(client, part)
            for part in _calls([(number, self._entry(event)) for number, event in events if is_known(event)])
        ]
        return join(answers)

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
