"""User's gRPC servicers: they translate and delegate.

What they don't override answers UNIMPLEMENTED by the generated base class.
"""

import uuid
from typing import Any

from authmesh.user.v1 import user_directory_pb2, user_directory_pb2_grpc, user_service_pb2, user_service_pb2_grpc
from google.protobuf import empty_pb2

from mesh.resources.pagination import Paging
from mesh.rpc.caller import user_of
from services.user.administration import Administration
from services.user.profile import User
from services.user.profiles import Profiles


class UserService(user_service_pb2_grpc.UserServiceServicer):
    """`authmesh.user.v1.UserService`."""

    def __init__(self, directory: Profiles, administration: Administration) -> None:
        self._directory = directory
        self._administration = administration

    async def GetUser(self, request: user_service_pb2.GetUserRequest, context: Any) -> user_service_pb2.User:
        """Reads a profile."""
        return _message(await self._directory.get(user_of(request.name)))

    async def UpdateUser(self, request: user_service_pb2.UpdateUserRequest, context: Any) -> user_service_pb2.User:
        """Changes a profile."""
        given = request.user
        name = given.display_name if "display_name" in request.update_mask.paths else None
        return _message(await self._directory.update(user_of(given.name), name, given.etag))

    async def ListUsers(
        self, request: user_service_pb2.ListUsersRequest, context: Any
    ) -> user_service_pb2.ListUsersResponse:
        """Lists profiles."""
        paging = Paging(request, f"users?email={request.email.lower()}", uuid.UUID)
        found = await self._directory.page(paging.after, paging.size + 1, request.email)
        users, next_page_token = paging.cut(found, lambda user: user.id)
        return user_service_pb2.ListUsersResponse(users=map(_message, users), next_page_token=next_page_token)

    async def SetRoles(self, request: user_service_pb2.SetRolesRequest, context: Any) -> user_service_pb2.User:
        """Replaces roles."""
        return _message(await self._administration.set_roles(user_of(request.name), request.roles, request.etag))

    async def DisableUser(self, request: user_service_pb2.DisableUserRequest, context: Any) -> user_service_pb2.User:
        """Forbids sign-in and ends sessions."""
        return _message(await self._administration.set_disabled(user_of(request.name), disabled=True))

    async def EnableUser(self, request: user_service_pb2.EnableUserRequest, context: Any) -> user_service_pb2.User:
        """Allows sign-in again."""
        return _message(await self._administration.set_disabled(user_of(request.name), disabled=False))


class UserDirectory(user_directory_pb2_grpc.UserDirectoryServicer):
    """`authmesh.user.v1.UserDirectory`."""

    def __init__(self, directory: Profiles) -> None:
        self._directory = directory

    async def CreateUser(self, request: user_directory_pb2.CreateUserRequest, context: Any) -> empty_pb2.Empty:
        """Makes a profile."""
        await self._directory.create(uuid.UUID(request.user_id), request.email, request.display_name)
        return empty_pb2.Empty()

    async def LookupUser(
        self, request: user_directory_pb2.LookupUserRequest, context: Any
    ) -> user_directory_pb2.LookupUserResponse:
        """Finds a user by address or by id."""
        named = (
            self._directory.get(uuid.UUID(request.user_id))
            if request.user_id
            else self._directory.lookup(request.email)
        )
        return user_directory_pb2.LookupUserResponse(user_id=str((await named).id))


def _message(user: User) -> user_service_pb2.User:
    message = user_service_pb2.User(
        name=user.name,
        email=user.email,
        display_name=user.display_name,
        roles=user.roles,
        disabled=user.disabled,
        etag=user.etag,
    )
    message.create_time.FromDatetime(user.create_time)
    message.update_time.FromDatetime(user.update_time)
    return message
