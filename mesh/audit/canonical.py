"""The bytes of an event that the chain runs over: its protobuf encoding, of which there is exactly one.

Protobuf leaves the order of a map's entries to each library ("deterministic" is not "canonical"), so it is fixed here:
fields by number, entries of `detail` by the bytes of their names, and a name that another one begins with behind that
one. The last rule is what the library did that wrote the first trails; others, and perhaps a later release of it, put
the shorter name first.
"""

from itertools import pairwise

from authmesh.audit.v1.audit_event_pb2 import AuditEvent

_BEHIND = 256
"""Ends a name when names are compared: more than any byte."""


def canonical(event: AuditEvent) -> bytes:
    """The bytes of an event all of whose fields this release knows."""
    names = sorted(event.detail)
    if not any(longer.startswith(name) for name, longer in pairwise(names)):
        # No two libraries differ about it.
        return event.SerializeToString(deterministic=True)
    front, back = AuditEvent(), AuditEvent(previous_hash=event.previous_hash, sealed=event.sealed)
    front.CopyFrom(event)
    for field in ("detail", "previous_hash", "sealed"):
        front.ClearField(field)
    entries = (
        AuditEvent(detail={name: event.detail[name]})
        for name in sorted(names, key=lambda name: [*name.encode(), _BEHIND])
    )
    return b"".join(part.SerializeToString(deterministic=True) for part in (front, *entries, back))
