"""The audit events of Audit. The unit of work adds who called, from where, and when."""

from authmesh.audit.v1.audit_event_pb2 import AuditEvent


def subject_erased(user: str) -> AuditEvent:
    """What is personal about a user can't be read any more in Audit's own events."""
    return AuditEvent(type="audit.subject_erased", subject=user)
