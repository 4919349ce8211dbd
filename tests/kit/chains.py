"""Whether events are a chain."""

from authmesh.audit.v1.audit_event_pb2 import AuditEvent

from mesh.audit import tombstone


def verifies(events: list[AuditEvent]) -> bool:
    previous = b""
    for number, event in enumerate(events, 1):
        if (event.sequence, event.previous_hash) != (number, previous):
            return False
        previous = tombstone.link(event)
    return True
