"""Envelopes as EventBridge makes them of what `mesh.outbox.sinks.events` sends."""

import json
from datetime import UTC, datetime
from typing import Any

from authmesh.audit.v1.audit_event_pb2 import OUTCOME_SUCCESS, AuditEvent
from google.protobuf import json_format

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def event(sequence: int, *, source: str = "auth", at: datetime = NOON, **fields: Any) -> AuditEvent:
    """An event as a relay sends it."""
    fields.setdefault("previous_hash", bytes(32) if sequence > 1 else b"")
    made = AuditEvent(
        event_id=f"id-{sequence}",
        source=source,
        sequence=sequence,
        type="auth.signed_in",
        outcome=OUTCOME_SUCCESS,
        **fields,
    )
    made.event_time.FromDatetime(at)
    return made


def envelope(sent: AuditEvent, **changes: Any) -> str:
    """The body of the queue message."""
    members = {
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": sent.type,
        "source": f"authmesh.{sent.source}",
        "account": "000000000000",
        "time": "2026-11-24T12:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": json.loads(json_format.MessageToJson(sent)),
    }
    return json.dumps(members | changes)
