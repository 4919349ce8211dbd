"""Tombstones: what stands in the chain at the number of an event that could not be delivered.

An event that is too large or cannot be read is known before it is numbered: its tombstone is chained like any other event. One that the bus refuses
again and again has its number already, and the hash of the next event is made of it: its tombstone says which hash it stands for. A verifier reports
every tombstone; the event itself waits in `outbox_parked` of its source.
"""

import hashlib
from datetime import UTC, datetime

from authmesh.audit.v1.audit_event_pb2 import OUTCOME_FAILURE, AuditEvent

from mesh.ids import uuid7

PARKED = "audit.parked"
REPLACES = "replaces"
"""Detail of a tombstone that came after the numbering: the hash, in hexadecimal, that the next event carries as `previous_hash`."""


def link(event: AuditEvent) -> bytes:
    """The `previous_hash` of the event behind this one."""
    if event.type == PARKED and REPLACES in event.detail:
        try:
            return bytes.fromhex(event.detail[REPLACES])
        except ValueError:
            # Nobody of ours wrote that: the chain breaks here, and the verifier says so.
            return b""
    return hashlib.sha256(event.SerializeToString(deterministic=True)).digest()


def unnumbered(source: str, event_type: str, payload: bytes, reason: str) -> AuditEvent:
    """The tombstone of a row that has no number yet. `reason` is `unreadable` or `too_large`."""
    tombstone = _tombstone(source, event_type, reason)
    tombstone.detail["sha256"] = hashlib.sha256(payload).hexdigest()
    return tombstone


def numbered(event: AuditEvent, reason: str) -> AuditEvent:
    """The tombstone of an event that is part of the chain. `reason` is what the bus said."""
    tombstone = _tombstone(event.source, event.type, reason)
    tombstone.sequence, tombstone.previous_hash = event.sequence, event.previous_hash
    tombstone.event_time.CopyFrom(event.event_time)
    tombstone.detail[REPLACES] = link(event).hex()
    return tombstone


def _tombstone(source: str, event_type: str, reason: str) -> AuditEvent:
    tombstone = AuditEvent(
        event_id=str(uuid7()), source=source, type=PARKED, outcome=OUTCOME_FAILURE, detail={"type": event_type, "reason": reason[:200]}
    )
    tombstone.event_time.FromDatetime(datetime.now(UTC))
    return tombstone
