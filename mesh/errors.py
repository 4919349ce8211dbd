"""What can go wrong, in the words of the contract.

Domain code raises these; `mesh.rpc.errors` turns them into a gRPC status, and only it. Reasons come from
protos/authmesh/errors/v1/reason.proto, whose table is in docs/contract.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from authmesh.errors.v1.reason import Reason as Reason


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
        facts: Mapping[str, str] | None = None,
    ) -> None:
        """Initializes the instance.

        Args:
            reason: What a program decides on.
            message: What a person reads; says what to do. Never a secret, never someone's data.
            violations: The fields at fault.
            retry_after: When a repetition is worth it; sent as `google.rpc.RetryInfo`.
            facts: What a program needs to know beside the reason; sent as `google.rpc.ErrorInfo.metadata`.
        """
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = violations
        self.retry_after = retry_after
        self.facts = facts or {}


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
    """Someone else was faster: read again."""


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
