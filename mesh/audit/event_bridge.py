"""The sink that sends audit events to EventBridge."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC
from typing import Any

from authmesh.audit.v1 import audit_event_pb2
from google.protobuf import json_format

from mesh.outbox import Entry

ENTRIES_PER_CALL = 10
"""PutEvents takes at most ten."""


class EventBridgeSink:
    """Delivers numbered audit events to the bus. `Source` is `authmesh.<service>`, `DetailType` the event's type, `Detail` its proto3 JSON."""

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

    async def send(self, client: Any, entries: Sequence[Entry]) -> Collection[int]:
        """Puts the events. Those that EventBridge refused stay behind and are tried again alone, later."""
        events = [audit_event_pb2.AuditEvent.FromString(entry.payload) for entry in entries]
        answer = await client.put_events(
            Entries=[
                {
                    "EventBusName": self._bus,
                    "Source": f"authmesh.{event.source}",
                    "DetailType": event.type,
                    "Time": event.event_time.ToDatetime(tzinfo=UTC),
                    "Detail": json_format.MessageToJson(event, indent=None),
                }
                for event in events
            ]
        )
        return [entry.id for entry, result in zip(entries, answer["Entries"], strict=True) if "EventId" in result]
