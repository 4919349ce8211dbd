"""Finding people by the name that an owner used: the port, and its adapter that asks User."""

from typing import Protocol
from uuid import UUID

from authmesh.user.v1.user_directory_pb2 import LookupUserRequest
from authmesh.user.v1.user_directory_pb2_grpc import UserDirectoryStub
from grpc import aio

from mesh.errors import NotFound
from services.resource.share import Grantee

LOOKUP_SECONDS = 1.0
"""A lookup that takes longer is left to the background: the share is good either way."""


class UserLookup(Protocol):
    """Who owns which address, and which users there are."""

    async def find(self, grantee: Grantee) -> UUID | None:
        """The user whom `grantee` means.

        None when there is none: no one has verified the address, or no user has the id.

        Raises:
            Unavailable, DeadlineExceeded: no one could be asked.
        """


class UserDirectory:
    """The people that User knows, asked through the egress."""

    def __init__(self, channel: aio.Channel) -> None:
        self._stub = UserDirectoryStub(channel)

    async def find(self, grantee: Grantee) -> UUID | None:
        """See `UserLookup.find`."""
        request = LookupUserRequest(email=grantee.email or "", user_id=str(grantee.user or ""))
        try:
            return UUID((await self._stub.LookupUser(request, timeout=LOOKUP_SECONDS)).user_id)
        except NotFound:
            return None
