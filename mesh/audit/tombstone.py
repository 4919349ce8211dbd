"""Tombstones: what stands in the chain at the number of an event that could not be delivered.

An event that is too large or cannot be read is known before it is numbered: its tombstone is chained like any other
event. One that the bus refuses again and again has its number already, and the hash of the next event is made of it:
its tombstone says which hash it stands for. Any sender could say that, so the source also writes a statement, an event
at the end of its chain, which names the number, the hash and the tombstone. A tombstone without a statement is a
forgery, and verifiers say so. The event itself waits in `outbox_parked` of its source.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from authmesh.audit.v1.audit_event_pb2 import OUTCOME_FAILURE, AuditEvent

from mesh.audit.canonical import canonical
from mesh.ids import uuid7

PARKED = "audit.parked"
STATEMENT = "audit.event_parked"
REPLACES = "replaces"
"""Detail of a tombstone that came after the numbering: the hash, in hexadecimal, that the next event carries as
`previous_hash`."""
NUMBER, HASH, TOMBSTONE = "number", "hash", "tombstone"
"""Details of a statement: the event's number, its hash, and the hash of its tombstone."""


@dataclass(frozen=True, slots=True)
class Parking:
    """That an event was put aside, as a statement names it."""

    sequence: int
    hash: bytes
    """Of the event: what the next one carries as `previous_hash`."""
    tombstone: bytes
    """SHA-256 of its tombstone."""


def is_tombstone(event: AuditEvent) -> bool:
    """Whether an event stands at the number, and for the hash, of another one."""
    return event.type == PARKED and REPLACES in event.detail


def link(event: AuditEvent) -> bytes:
    """The `previous_hash` of the event behind this one."""
    if is_tombstone(event):
        try:
            return bytes.fromhex(event.detail[REPLACES])
        except ValueError:
            # No process of ours wrote that: the chain breaks here, and the verifier says so.
            return b""
    return digest(event)


def digest(event: AuditEvent) -> bytes:
    """The SHA-256 of an event's bytes."""
    return hashlib.sha256(canonical(event)).digest()


def unnumbered(source: str, event_type: str, payload: bytes, reason: str) -> AuditEvent:
    """The tombstone of a row that has no number yet. `reason` is `unreadable` or `too_large`."""
    tombstone = _event(source, PARKED, event_type, reason)
    tombstone.detail["sha256"] = hashlib.sha256(payload).hexdigest()
    return tombstone


def numbered(event: AuditEvent, reason: str) -> AuditEvent:
    """The tombstone of an event that is part of the chain. `reason` is what the bus said."""
    tombstone = _event(event.source, PARKED, event.type, reason)
    tombstone.sequence, tombstone.previous_hash = event.sequence, event.previous_hash
    tombstone.event_time.CopyFrom(event.event_time)
    tombstone.detail[REPLACES] = link(event).hex()
    return tombstone


def statement(tombstone: AuditEvent) -> AuditEvent:
    """The statement that belongs to a tombstone of `numbered`; to be chained."""
    stated = _event(tombstone.source, STATEMENT, tombstone.detail["type"], tombstone.detail["reason"])
    stated.detail[NUMBER] = str(tombstone.sequence)
    stated.detail[HASH] = tombstone.detail[REPLACES]
    stated.detail[TOMBSTONE] = digest(tombstone).hex()
    return stated


def parking(event: AuditEvent) -> Parking | None:
    """What a statement says; None when the event is none, or one that says nothing."""
    if event.type != STATEMENT:
        return None
    number, hash_, tombstone = (event.detail.get(name, "") for name in (NUMBER, HASH, TOMBSTONE))
    try:
        return Parking(int(number), bytes.fromhex(hash_), bytes.fromhex(tombstone))
    except ValueError:
        return None


def _event(source: str, event_type: str, about: str, reason: str) -> AuditEvent:
    event = AuditEvent(
        event_id=str(uuid7()),
        source=source,
        type=event_type,
        outcome=OUTCOME_FAILURE,
        detail={"type": about, "reason": reason[:200]},
    )
    event.event_time.FromDatetime(datetime.now(UTC))
    return event
