"""User's gRPC servicers: they translate and delegate."""

import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from authmesh.user.v1 import user_directory_pb2, user_directory_pb2_grpc, user_service_pb2, user_service_pb2_grpc
from google.api import httpbody_pb2
from google.protobuf import empty_pb2

from mesh.errors import PermissionDenied, Reason, field_invalid
from mesh.resources.pagination import Paging
from mesh.rpc.caller import caller_claims, caller_user, user_of
from services.user.administration import Administration
from services.user.answers import user_message
from services.user.erasure import Erasure
from services.user.export import Export
from services.user.profiles import Profiles
from services.user.store import Match

ADMINISTRATION = "admin:users"
"""The scope of those who administer users."""


class UserService(user_service_pb2_grpc.UserServiceServicer):
    """`authmesh.user.v1.UserService`."""

    def __init__(self, directory: Profiles, administration: Administration, erasure: Erasure, export: Export) -> None:
        self._directory = directory
        self._administration = administration
        self._erasure = erasure
        self._export = export

    async def GetUser(self, request: user_service_pb2.GetUserRequest, context: Any) -> user_service_pb2.User:
        """Reads a profile."""
        return user_message(await self._directory.get(user_of(request.name)))

    async def UpdateUser(self, request: user_service_pb2.UpdateUserRequest, context: Any) -> user_service_pb2.User:
        """Changes a profile."""
        given = request.user
        name = given.display_name if "display_name" in request.update_mask.paths else None
        return user_message(await self._directory.update(user_of(given.name), name, given.etag))

    async def ListUsers(
        self, request: user_service_pb2.ListUsersRequest, context: Any
    ) -> user_service_pb2.ListUsersResponse:
        """Lists profiles."""
        if request.query:
            return await self._search(request)
        paging = Paging(request, f"users?email={request.email.lower()}", uuid.UUID)
        found = await self._directory.page(paging.after, paging.size + 1, request.email)
        users, next_page_token = paging.cut(found, lambda user: user.id)
        return user_service_pb2.ListUsersResponse(users=map(user_message, users), next_page_token=next_page_token)

    async def _search(self, request: user_service_pb2.ListUsersRequest) -> user_service_pb2.ListUsersResponse:
        if request.email:
            raise field_invalid("query", "can't be used together with email")
        paging = Paging(request, f"users?query={request.query.lower()}", _match)
        found = await self._directory.search(request.query, paging.after, paging.size + 1)
        page, next_page_token = paging.cut(found, lambda match: f"{match[0].user_id} {match[0].text}")
        users = [user_message(user) for _, user in page]
        return user_service_pb2.ListUsersResponse(users=users, next_page_token=next_page_token)

    async def SetRoles(self, request: user_service_pb2.SetRolesRequest, context: Any) -> user_service_pb2.User:
        """Replaces roles."""
        return user_message(await self._administration.set_roles(user_of(request.name), request.roles, request.etag))

    async def DisableUser(self, request: user_service_pb2.DisableUserRequest, context: Any) -> user_service_pb2.User:
        """Forbids sign-in and ends sessions."""
        return user_message(await self._administration.set_disabled(user_of(request.name), disabled=True))

    async def EnableUser(self, request: user_service_pb2.EnableUserRequest, context: Any) -> user_service_pb2.User:
        """Allows sign-in again."""
        return user_message(await self._administration.set_disabled(user_of(request.name), disabled=False))

    async def DeleteUser(self, request: user_service_pb2.DeleteUserRequest, context: Any) -> empty_pb2.Empty:
        """Erases a user everywhere."""
        if request.new_owner and ADMINISTRATION not in caller_claims().scopes:
            raise PermissionDenied(
                Reason.SCOPE_MISSING, f"who names a new_owner needs the scope {ADMINISTRATION}: leave it out"
            )
        new_owner = user_of(request.new_owner) if request.new_owner else None
        await self._erasure.erase(user_of(request.name), request.etag, new_owner)
        return empty_pb2.Empty()

    async def ExportMyData(
        self, request: user_service_pb2.ExportMyDataRequest, context: Any
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """Streams everything that is held of the caller."""
        async with aclosing(self._export.pieces(caller_user())) as pieces:
            async for piece in pieces:
                yield httpbody_pb2.HttpBody(content_type="application/json", data=piece)


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


def _match(key: str) -> Match:
    user_id, _, text = key.partition(" ")
    return Match(text, uuid.UUID(user_id))
