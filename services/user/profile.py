"""A user."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from mesh.errors import NotFound, Reason
from mesh.resources.etag import etag_of
from mesh.resources.name import USER


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
        return USER.of(self.id)

    @property
    def etag(self) -> str:
        """Changes with the version, and means nothing else."""
        return etag_of(self.name, self.version)


def not_found() -> NotFound:
    """The answer to a user who doesn't exist."""
    return NotFound(Reason.USER_NOT_FOUND, "the user does not exist")
