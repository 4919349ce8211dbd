"""A user, and what may be changed about one."""

import hashlib
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from mesh.errors import Aborted, NotFound, Reason, field_invalid

CHANGEABLE = frozenset({"display_name"})
_HARMLESS = frozenset({"name", "etag"})
"""In a mask they say nothing: the one names the user, the other the state. Envoy puts every member of a PATCH body into
the mask."""


@dataclass(frozen=True, slots=True)
class User:
    """A person with a verified address."""

    id: uuid.UUID
    email: str
    display_name: str
    roles: tuple[str, ...]
    """Sorted."""
    disabled: bool
    version: int
    """Counts the changes, from 1. Token and Auth ignore what is older than they know."""
    create_time: datetime
    update_time: datetime

    @property
    def name(self) -> str:
        """The resource name."""
        return f"users/{self.id}"

    @property
    def etag(self) -> str:
        """Changes with the version, and means nothing else."""
        return hashlib.sha256(f"{self.id}:{self.version}".encode()).hexdigest()[:16]


def fields_to_change(mask: Collection[str], given: Collection[str]) -> frozenset[str]:
    """Which fields an update changes.

    Args:
        mask: The `update_mask`'s paths. Empty: every field that is given and can be changed. `*`: every field that can
            be changed.
        given: The fields that are set in the request.

    Raises:
        InvalidArgument: FIELD_INVALID `update_mask`, for a field that can't be changed or doesn't exist.
    """
    if not mask:
        return CHANGEABLE & frozenset(given)
    if "*" in mask:
        return CHANGEABLE
    wrong = sorted(set(mask) - CHANGEABLE - _HARMLESS)
    if wrong:
        raise field_invalid("update_mask", f"`{wrong[0][:100]}` can't be changed: {', '.join(sorted(CHANGEABLE))} can")
    return frozenset(mask) & CHANGEABLE


def demand_etag(user: User, etag: str) -> None:
    """Refuses to change another state than the one that was read. An empty etag changes any.

    Raises:
        Aborted: ETAG_MISMATCH.
    """
    if etag and etag != user.etag:
        raise Aborted(Reason.ETAG_MISMATCH, "the user was changed since it was read: read it again")


def not_found() -> NotFound:
    """The answer to a user who doesn't exist."""
    return NotFound(Reason.USER_NOT_FOUND, "there is no such user")
