"""A resource, as one person sees it, and the rules of changing it."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from uuid import UUID

from mesh.errors import Aborted, InvalidArgument, NotFound, PermissionDenied, Reason, field_invalid

CHANGEABLE = ("display_name", "content")
"""The fields that an update may name."""


class Role(IntEnum):
    """What somebody may do, weakest first. The numbers are those of `authmesh.resource.v1.Role`."""

    READER = 1
    EDITOR = 2
    OWNER = 3


@dataclass(frozen=True, slots=True)
class Draft:
    """The part of a resource that people write."""

    display_name: str
    content: str

    def digest(self) -> bytes:
        """SHA-256 that two drafts share only when they are equal."""
        name, content = self.display_name.encode(), self.content.encode()
        return hashlib.sha256(len(name).to_bytes(8) + name + content).digest()


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource and the role that the one who looks at it has."""

    id: UUID
    owner: UUID
    draft: Draft
    version: int
    """Counts the states of the resource, from 1."""
    created_at: datetime
    updated_at: datetime
    role: Role | None
    """None: the one who looks may not see it."""

    @property
    def name(self) -> str:
        """The resource name, `resources/{uuid}`."""
        return f"resources/{self.id}"

    @property
    def etag(self) -> str:
        """Another one for each state, and nothing that a client could compute the next one from by habit."""
        digest = hashlib.sha256(self.id.bytes + self.version.to_bytes(8)).digest()
        return base64.urlsafe_b64encode(digest[:12]).decode()


def refusal(resource: Resource | None, needed: Role) -> NotFound | PermissionDenied | None:
    """Why somebody may not do what takes `needed`; None when they may. A resource that they cannot see does not
    exist.
    """
    if resource is None or resource.role is None:
        return NotFound(Reason.RESOURCE_NOT_FOUND, "there is no such resource")
    if resource.role < needed:
        return PermissionDenied(
            Reason.ROLE_MISSING, f"this takes the role {needed.name.lower()}; yours is {resource.role.name.lower()}"
        )
    return None


def require_etag(resource: Resource, etag: str) -> None:
    """Makes sure that `etag`, if there is one, is that of the resource's present state.

    Raises:
        Aborted: ETAG_MISMATCH.
    """
    if etag and etag != resource.etag:
        raise Aborted(Reason.ETAG_MISMATCH, "the resource was changed since it was read: read it again")


def edited(current: Draft, given: Draft, paths: Sequence[str]) -> Draft:
    """`current` with the fields that `paths` names taken from `given`; without paths, those that are set in `given`
    (AIP-134).

    Raises:
        InvalidArgument: FIELD_INVALID, a path that cannot be changed.
    """
    check_paths(paths)
    chosen = set(paths) or {field for field in CHANGEABLE if getattr(given, field)}
    return Draft(*(getattr(given if field in chosen else current, field) for field in CHANGEABLE))


def check_paths(paths: Sequence[str]) -> None:
    """Refuses a mask that names a field which cannot be changed, whatever the resource.

    Raises:
        InvalidArgument: FIELD_INVALID `update_mask`.
    """
    for path in paths:
        if path not in CHANGEABLE:
            raise _not_changeable(path)


def _not_changeable(path: str) -> InvalidArgument:
    return field_invalid("update_mask", f"{path[:100]!r} can't be changed: only {' and '.join(CHANGEABLE)} can")
