"""A resource, as one person sees it, and the rules of changing it."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from uuid import UUID

from mesh.errors import NotFound, PermissionDenied, Reason
from mesh.resources.etag import etag_of
from mesh.resources.name import NamePattern


class Role(IntEnum):
    """What someone may do, weakest first. The numbers are those of `authmesh.resource.v1.Role`."""

    READER = 1
    EDITOR = 2
    OWNER = 3


RESOURCE = NamePattern("resources")


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
        return RESOURCE.of(self.id)

    @property
    def etag(self) -> str:
        """Another one for each state."""
        return etag_of(self.name, self.version)


def refusal(resource: Resource | None, needed: Role) -> NotFound | PermissionDenied | None:
    """Why someone may not do what takes `needed`; None when they may.

    A resource that they cannot see does not exist.
    """
    if resource is None or resource.role is None:
        return NotFound(Reason.RESOURCE_NOT_FOUND, "the resource does not exist")
    if resource.role < needed:
        return PermissionDenied(
            Reason.ROLE_MISSING, f"this takes the role {needed.name.lower()}; yours is {resource.role.name.lower()}"
        )
    return None


def edited(current: Draft, given: Draft, fields: Collection[str]) -> Draft:
    """`current` with these fields of `given`."""
    return Draft(*(getattr(given if field in fields else current, field) for field in Draft.__slots__))
