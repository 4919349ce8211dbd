"""Shares: whom a resource is shared with, by the name that the owner used for them.

A share has no holder until User says who is meant. A name that means no one stays without: it is not an error, for that
would tell who has an account, and nothing happens for it.

A share given to an address stays a share of that address even when its account is known, and beside one given to the
same person by user id: if the two became one, the list of shares would tell the owner which address belongs to which
account. Someone's role is the highest of their shares.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from uuid import UUID

from mesh.resources.name import USER
from services.resource.resource import Role

MAX_SHARES = 1_000
"""Shares of one resource. Its changes are announced to each."""


@dataclass(frozen=True, slots=True)
class Grantee:
    """Someone, as an owner names them: exactly one of the two."""

    user: UUID | None = None
    email: str | None = None
    """As it was typed."""

    @property
    def key(self) -> str:
        """What two spellings of one grantee have in common."""
        return USER.of(self.user) if self.email is None else address_key(self.email)


def address_key(email: str) -> str:
    """The form in which addresses are compared: without regard to case."""
    return email.lower()


@dataclass(frozen=True, slots=True)
class Share:
    """One grantee's access to a resource."""

    id: UUID
    resource: UUID
    grantee: Grantee
    holder: UUID | None
    """The user who has it. None while no such user is known."""
    role: Role
    created_at: datetime


class Change(IntEnum):
    """What happened to a resource in the eyes of one person.

    The numbers are those of `WatchResourcesResponse.Change`.
    """

    ADDED = 1
    UPDATED = 2
    REMOVED = 3


def transition(before: Role | None, after: Role | None) -> Change | None:
    """What someone notices when their role changes; None when nothing."""
    if before == after:
        return None
    if before is None:
        return Change.ADDED
    return Change.REMOVED if after is None else Change.UPDATED
