"""Finding people by address: the port, and its adapter that asks User."""

from typing import Protocol
from uuid import UUID

from authmesh.user.v1.user_directory_pb2 import LookupUserRequest
from authmesh.user.v1.user_directory_pb2_grpc import UserDirectoryStub
from grpc import aio

from mesh.errors import NotFound

LOOKUP_SECONDS = 1.0
"""A lookup that takes longer is left to the background: the share is good either way."""


class People(Protocol):
    """Who owns which address."""

    async def find(self, email: str) -> UUID | None:
        """The user who has verified `email`; None when nobody has.

        Raises:
            Unavailable, DeadlineExceeded: nobody could be asked.
        """


class UserDirectory:
    """The people that User knows, asked through the egress."""

    def __init__(self, channel: aio.Channel) -> None:
        self._stub = UserDirectoryStub(channel)

    async def find(self, email: str) -> UUID | None:
        """See `People.find`."""
        try:
            return UUID((await self._stub.LookupUser(LookupUserRequest(email=email), timeout=LOOKUP_SECONDS)).user_id)
        except NotFound:
            return None
