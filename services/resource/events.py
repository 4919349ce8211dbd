"""The audit events of Resource. The outbox adds who called, from where, and when."""

from uuid import UUID

from authmesh.audit.v1.audit_event_pb2 import OUTCOME_FAILURE, OUTCOME_SUCCESS, AuditEvent

from mesh.errors import Reason
from mesh.resources.name import USER
from services.resource.resource import RESOURCE, Resource
from services.resource.share import Share


def created(resource: Resource) -> AuditEvent:
    """A resource was made."""
    return _success("resource.created", resource.id, resource.owner)


def updated(resource: Resource, caller: UUID, fields: list[str]) -> AuditEvent:
    """The named fields of a resource were changed."""
    return _success("resource.updated", resource.id, caller, fields=",".join(fields), version=str(resource.version))


def deleted(resource: Resource, caller: UUID) -> AuditEvent:
    """A resource was deleted, and its shares with it."""
    return _success("resource.deleted", resource.id, caller)


def owner_changed(resource: Resource) -> AuditEvent:
    """A resource was handed over. `subject` owns it now."""
    return _success("resource.owner_changed", resource.id, resource.owner)


def shared(share: Share) -> AuditEvent:
    """Someone was given a role."""
    return _about(
        share,
        _success("resource.shared", share.resource, share.grantee.user or share.holder, role=share.role.name.lower()),
    )


def unshared(share: Share) -> AuditEvent:
    """A share was taken back."""
    return _about(share, _success("resource.unshared", share.resource, share.grantee.user or share.holder))


def claimed(share: Share, holder: UUID) -> AuditEvent:
    """A share that was given to an address became that of the user who owns the address."""
    return _about(share, _success("resource.shares_claimed", share.resource, holder, role=share.role.name.lower()))


def access_denied(resource_id: UUID, caller: UUID, reason: Reason) -> AuditEvent:
    """Someone asked for a resource that they may not have, or not in that way."""
    return AuditEvent(
        type="resource.access_denied",
        outcome=OUTCOME_FAILURE,
        reason=reason,
        subject=USER.of(caller),
        target=RESOURCE.of(resource_id),
    )


def _success(event_type: str, resource_id: UUID, subject: UUID | None, **detail: str) -> AuditEvent:
    return AuditEvent(
        type=event_type,
        outcome=OUTCOME_SUCCESS,
        subject=USER.of(subject) if subject else "",
        target=RESOURCE.of(resource_id),
        detail=detail,
    )


def _about(share: Share, event: AuditEvent) -> AuditEvent:
    event.email = share.grantee.email or ""
    return event
