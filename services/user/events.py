"""The audit events of User. The unit of work adds who called, from where, and when."""

from authmesh.audit.v1.audit_event_pb2 import AuditEvent

from services.user.profile import User


def created(user: User) -> AuditEvent:
    """A profile was made."""
    return AuditEvent(type="user.created", subject=user.name, email=user.email)


def updated(user: User, fields: str) -> AuditEvent:
    """The named fields of a profile were changed."""
    return AuditEvent(type="user.updated", subject=user.name, detail={"fields": fields})


def roles_changed(before: User, after: User) -> AuditEvent:
    """A user was given other roles."""
    return _decided("user.roles_changed", after, roles=" ".join(after.roles), roles_before=" ".join(before.roles))


def status_changed(user: User) -> AuditEvent:
    """A user was disabled, or enabled again."""
    return _decided("user.disabled" if user.disabled else "user.enabled", user)


def deleted(user: User) -> AuditEvent:
    """A user was deleted."""
    return AuditEvent(type="user.deleted", subject=user.name)


def data_exported(user: User) -> AuditEvent:
    """Someone asked for everything that is held of them."""
    return AuditEvent(type="user.data_exported", subject=user.name)


def _decided(event_type: str, user: User, **detail: str) -> AuditEvent:
    return AuditEvent(type=event_type, subject=user.name, detail={"version": str(user.version)} | detail)
