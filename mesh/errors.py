"""What can go wrong, in the words of the contract. Domain code raises these; `mesh.rpc.errors` turns them into a gRPC
status, and only it.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Reason(StrEnum):
    """`google.rpc.ErrorInfo.reason`, as clients see it. The table of docs/contract.md says what a client does on
    each.
    """

    TOKEN_MISSING = "TOKEN_MISSING"
    TOKEN_INVALID = "TOKEN_INVALID"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    TOKEN_REVOKED = "TOKEN_REVOKED"
    REFRESH_INVALID = "REFRESH_INVALID"
    REFRESH_REUSED = "REFRESH_REUSED"
    CREDENTIALS_INVALID = "CREDENTIALS_INVALID"
    SCOPE_MISSING = "SCOPE_MISSING"
    ROLE_MISSING = "ROLE_MISSING"
    CALLER_NOT_ALLOWED = "CALLER_NOT_ALLOWED"
    STEP_UP_REQUIRED = "STEP_UP_REQUIRED"
    REVOCATION_STALE = "REVOCATION_STALE"
    KEYS_UNAVAILABLE = "KEYS_UNAVAILABLE"
    DEPENDENCY_UNAVAILABLE = "DEPENDENCY_UNAVAILABLE"
    RATE_LIMITED = "RATE_LIMITED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    OVERLOADED = "OVERLOADED"
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    FIELD_INVALID = "FIELD_INVALID"
    CODE_INVALID = "CODE_INVALID"
    PASSWORD_INVALID = "PASSWORD_INVALID"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    EMAIL_UNVERIFIED = "EMAIL_UNVERIFIED"
    LAST_ADMINISTRATOR = "LAST_ADMINISTRATOR"
    USER_NOT_FOUND = "USER_NOT_FOUND"
    RESOURCE_NOT_FOUND = "RESOURCE_NOT_FOUND"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    CLIENT_NOT_FOUND = "CLIENT_NOT_FOUND"
    CLIENT_ALREADY_EXISTS = "CLIENT_ALREADY_EXISTS"
    KEY_NOT_FOUND = "KEY_NOT_FOUND"
    ETAG_MISMATCH = "ETAG_MISMATCH"
    DEADLINE = "DEADLINE"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field at fault (`google.rpc.BadRequest.FieldViolation`)."""

    field: str
    """Path in the request message, dotted, in proto spelling: `device.instance_id`."""
    description: str
    """What is wrong, so that a developer can mend it."""


class MeshError(Exception):
    """A refusal with a reason of the contract. Raise one of the subclasses: each is one status."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        violations: tuple[FieldViolation, ...] = (),
        retry_after: timedelta | None = None,
    ) -> None:
        """Args:
        reason: What a program decides on.
        message: What a person reads; says what to do. Never a secret, never somebody's data.
        violations: The fields at fault.
        retry_after: When a repetition is worth it; sent as `google.rpc.RetryInfo`.
        """
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = violations
        self.retry_after = retry_after


class Unauthenticated(MeshError):
    """The credential is certainly not good. Never raised for an outage: a client drops its tokens on it."""


class PermissionDenied(MeshError):
    """The caller is known and may not."""


class Unavailable(MeshError):
    """Something needed is out of reach; nothing was decided. Clients keep their tokens and try again."""

    def __init__(self, reason: Reason, message: str, *, retry_after: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(reason, message, retry_after=retry_after)


class ResourceExhausted(MeshError):
    """Too much, too often or too large."""


class InvalidArgument(MeshError):
    """The request is wrong, whatever the state of the system."""


class FailedPrecondition(MeshError):
    """The request is right, and the state of the system doesn't allow it now."""


class NotFound(MeshError):
    """It does not exist, or the caller may not know that it does."""


class AlreadyExists(MeshError):
    """It exists already."""


class Aborted(MeshError):
    """Somebody else was faster: read again."""


class DeadlineExceeded(MeshError):
    """The caller's time was up. Whether the change was made is unknown."""


class Unimplemented(MeshError):
    """The contract has it, this release does not."""


class Internal(MeshError):
    """A fault of ours. Carries nothing but the request id."""


def field_invalid(field: str, description: str) -> InvalidArgument:
    """The refusal of one field."""
    return InvalidArgument(
        Reason.FIELD_INVALID, f"{field}: {description}", violations=(FieldViolation(field, description),)
    )


def quota_exceeded(description: str) -> ResourceExhausted:
    """The refusal of what would be more than the caller may have. Waiting doesn't help."""
    return ResourceExhausted(Reason.QUOTA_EXCEEDED, description)
