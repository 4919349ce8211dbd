"""The gRPC face of User: aliases, masks, access, and errors with their fields."""

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from authmesh.auth.v1.credential_directory_pb2_grpc import (
    add_CredentialDirectoryServicer_to_server,
)
from authmesh.token.v1.token_issuer_pb2_grpc import add_TokenIssuerServicer_to_server
from authmesh.user.v1 import user_service_pb2
from authmesh.user.v1.user_directory_pb2_grpc import UserDirectoryStub, add_UserDirectoryServicer_to_server
from authmesh.user.v1.user_service_pb2_grpc import UserServiceStub, add_UserServiceServicer_to_server
from google.protobuf import empty_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from mesh.errors import (
    FailedPrecondition,
    InvalidArgument,
    MeshError,
    NotFound,
    PermissionDenied,
    Reason,
)
from services.user.administration import Administration
from services.user.command_pusher import ChannelCourier
from services.user.erasure import Erasure
from services.user.export import Export, sources
from services.user.service import UserDirectory, UserService
from tests.kit.serving import TrustedCaller, served
from tests.kit.user_backends import Backends, User

if TYPE_CHECKING:
    from .conftest import UserParts


@dataclass
class Served:
    parts: "UserParts"
    caller: TrustedCaller
    users: UserServiceStub
    directory: UserDirectoryStub
    backends: Backends


@pytest.fixture
async def service(user: "UserParts") -> AsyncIterator[Served]:
    caller, backends = TrustedCaller(), Backends()
    elsewhere = [(add_TokenIssuerServicer_to_server, backends), (add_CredentialDirectoryServicer_to_server, backends)]
    async with served(elsewhere, TrustedCaller()) as egress:
        courier = ChannelCourier(egress, 1)
        administration = Administration(user.work, courier)
        ours = [
            (
                add_UserServiceServicer_to_server,
                UserService(
                    user.directory,
                    administration,
                    Erasure(user.work, courier),
                    Export(user.work, sources(egress)[:1]),
                ),
            ),
            (add_UserDirectoryServicer_to_server, UserDirectory(user.directory)),
        ]
        async with served(ours, caller) as channel:
            yield Served(user, caller, UserServiceStub(channel), UserDirectoryStub(channel), backends)


async def refused(call: Any, kind: type[MeshError], reason: Reason, *fields: str) -> None:
    with pytest.raises(kind) as refusal:
        await call
    assert refusal.value.reason is reason
    assert tuple(violation.field for violation in refusal.value.violations) == fields


async def test_an_export_is_one_document_of_the_caller(service: Served) -> None:
    ada = await service.parts.new_user("ada@example.com")
    service.caller.subject = str(ada)
    pieces = [piece async for piece in service.users.ExportMyData(user_service_pb2.ExportMyDataRequest())]
    assert {piece.content_type for piece in pieces} == {"application/json"}
    document = json.loads(b"".join(piece.data for piece in pieces))
    assert document["things"] == [{"number": number, "text": "ä"} for number in range(3)]
    assert (document["others"], document["complete"]) == ([{}], True)
    (asked,) = service.backends.heard
    assert (asked.subject, asked.email) == (str(ada), "ada@example.com")


async def test_me_is_the_caller(service: Served) -> None:
    service.caller.subject = str(await service.parts.new_user("ada@example.com"))
    mine = await service.users.GetUser(user_service_pb2.GetUserRequest(name="users/me"))
    assert (mine.name, mine.email, list(mine.roles), mine.disabled) == (
        f"users/{service.caller.subject}",
        "ada@example.com",
        [],
        False,
    )
    assert mine.create_time == mine.update_time
    assert (
        await service.users.GetUser(user_service_pb2.GetUserRequest(name=mine.name.upper().replace("USERS", "users")))
        == mine
    )


async def test_a_caller_without_a_profile_is_not_found(service: Served) -> None:
    me = user_service_pb2.GetUserRequest(name="users/me")
    service.caller.subject = str(uuid.uuid4())
    await refused(service.users.GetUser(me), NotFound, Reason.USER_NOT_FOUND)
    service.caller.subject = "batch-client"
    await refused(service.users.GetUser(me), PermissionDenied, Reason.CALLER_NOT_ALLOWED)


async def test_others_are_for_administrators(service: Served) -> None:
    other = user_service_pb2.GetUserRequest(name=f"users/{await service.parts.new_user('ada@example.com')}")
    await refused(service.users.GetUser(other), PermissionDenied, Reason.SCOPE_MISSING)
    service.caller.scopes |= {"admin:users"}
    assert (await service.users.GetUser(other)).email == "ada@example.com"
    missing = user_service_pb2.GetUserRequest(name=f"users/{uuid.uuid4()}")
    await refused(service.users.GetUser(missing), NotFound, Reason.USER_NOT_FOUND)


async def test_an_update_names_the_field_at_fault(service: Served) -> None:
    service.caller.subject = str(await service.parts.new_user("ada@example.com"))
    request = user_service_pb2.UpdateUserRequest(
        user=User(name="users/me", display_name="Ada L."), update_mask=FieldMask(paths=["display_name"])
    )
    updated = await service.users.UpdateUser(request)
    assert updated.display_name == "Ada L."
    request.update_mask.paths[:] = ["mail"]
    await refused(service.users.UpdateUser(request), InvalidArgument, Reason.FIELD_INVALID, "update_mask")
    request.update_mask.paths[:] = []
    request.user.display_name = "a\0b"
    await refused(service.users.UpdateUser(request), InvalidArgument, Reason.FIELD_INVALID, "user.display_name")
    request.user.name = "users/nobody"
    await refused(service.users.UpdateUser(request), InvalidArgument, Reason.FIELD_INVALID, "user.name")
    await refused(
        service.users.UpdateUser(user_service_pb2.UpdateUserRequest()),
        InvalidArgument,
        Reason.FIELD_INVALID,
        "user.name",
    )


async def test_lists_are_for_administrators(service: Served) -> None:
    await refused(service.users.ListUsers(user_service_pb2.ListUsersRequest()), PermissionDenied, Reason.SCOPE_MISSING)
    service.caller.scopes |= {"admin:users"}
    for number in range(3):
        await service.parts.new_user(f"u{number}@example.com")
    page = await service.users.ListUsers(user_service_pb2.ListUsersRequest(page_size=2))
    assert len(page.users) == 2
    rest = await service.users.ListUsers(
        user_service_pb2.ListUsersRequest(page_size=2, page_token=page.next_page_token)
    )
    assert (len(rest.users), rest.next_page_token) == (1, "")
    too_many = user_service_pb2.ListUsersRequest(page_size=201)
    await refused(service.users.ListUsers(too_many), InvalidArgument, Reason.FIELD_INVALID, "page_size")
    wrong = user_service_pb2.ListUsersRequest(page_token="nonsense")
    await refused(service.users.ListUsers(wrong), InvalidArgument, Reason.FIELD_INVALID, "page_token")
    unheard_of = user_service_pb2.ListUsersRequest(email="a\0b")
    await refused(service.users.ListUsers(unheard_of), InvalidArgument, Reason.FIELD_INVALID, "email")


async def test_token_and_auth_have_heard_when_the_administrator_is_answered(service: Served) -> None:
    service.caller.scopes |= {"admin:users"}
    name = f"users/{await service.parts.new_user('ada@example.com')}"
    assert (await service.users.DisableUser(user_service_pb2.DisableUserRequest(name=name))).disabled
    assert {(type(request).__name__, request.disabled, request.version) for request in service.backends.heard} == {
        ("SetSubjectGrantsRequest", True, 2),
        ("SetSubjectStatusRequest", True, 2),
    }
    assert not (await service.users.EnableUser(user_service_pb2.EnableUserRequest(name=name))).disabled
    changed = await service.users.SetRoles(user_service_pb2.SetRolesRequest(name=name, roles=["admin"]))
    assert list(changed.roles) == ["admin"]
    assert [list(request.roles) for request in service.backends.heard[4:]] == [["admin"]]
    last = user_service_pb2.DisableUserRequest(name=name)
    await refused(service.users.DisableUser(last), FailedPrecondition, Reason.LAST_ADMINISTRATOR)


async def test_a_service_that_can_not_be_reached_is_told_by_the_outbox(service: Served) -> None:
    service.caller.scopes |= {"admin:users"}
    name = f"users/{await service.parts.new_user('ada@example.com')}"

    async def refuse(request: Any, context: Any) -> empty_pb2.Empty:
        raise NotImplementedError

    service.backends.SetSubjectGrants = refuse  # type: ignore[method-assign]
    assert (await service.users.DisableUser(user_service_pb2.DisableUserRequest(name=name))).disabled
    assert len(await service.parts.grants()) == 1


async def test_people_delete_themselves_and_administrators_anyone(service: Served) -> None:
    ada, bob = [await service.parts.new_user(f"{name}@example.com") for name in ("ada", "bob")]
    service.caller.subject = str(ada)
    other = user_service_pb2.DeleteUserRequest(name=f"users/{bob}")
    await refused(service.users.DeleteUser(other), PermissionDenied, Reason.SCOPE_MISSING)
    me = user_service_pb2.DeleteUserRequest(name="users/me", new_owner=f"users/{bob}")
    await refused(service.users.DeleteUser(me), PermissionDenied, Reason.SCOPE_MISSING)
    me.new_owner = ""
    await service.users.DeleteUser(me)
    assert {request.subject for request in service.backends.heard} == {str(ada)}
    await refused(service.users.DeleteUser(me), NotFound, Reason.USER_NOT_FOUND)
    service.caller.scopes |= {"admin:users"}
    await service.users.DeleteUser(other)
    other.new_owner = other.name
    await refused(service.users.DeleteUser(other), InvalidArgument, Reason.FIELD_INVALID, "new_owner")


async def test_a_search_goes_on_behind_its_token_only(service: Served) -> None:
    service.caller.scopes |= {"admin:users"}
    for name in ("ada", "adam", "bob"):
        await service.parts.new_user(f"{name}@example.com", "Zoe")
    request = user_service_pb2.ListUsersRequest(query="AD", page_size=1)
    first = await service.users.ListUsers(request)
    request.page_token = first.next_page_token
    second = await service.users.ListUsers(request)
    assert [user.email for user in (*first.users, *second.users)] == ["ada@example.com", "adam@example.com"]
    assert not second.next_page_token
    request.query = "ada"
    await refused(service.users.ListUsers(request), InvalidArgument, Reason.FIELD_INVALID, "page_token")
    both = user_service_pb2.ListUsersRequest(query="a", email="ada@example.com")
    await refused(service.users.ListUsers(both), InvalidArgument, Reason.FIELD_INVALID, "query")
