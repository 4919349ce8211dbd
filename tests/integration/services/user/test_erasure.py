"""A user is deleted, and what is told to whom. On a real database."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from authmesh.audit.v1 import audit_directory_pb2
from authmesh.auth.v1 import credential_directory_pb2
from authmesh.resource.v1 import resource_directory_pb2
from authmesh.token.v1 import token_issuer_pb2

from mesh.audit import subject_keys
from mesh.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound
from mesh.ids import uuid7
from services.user.erasure import Erasure

if TYPE_CHECKING:
    from .conftest import UserParts

TOKEN, AUTH = "/authmesh.token.v1.TokenIssuer/DeleteSubject", "/authmesh.auth.v1.CredentialDirectory/DeleteSubject"
RESOURCE = "/authmesh.resource.v1.ResourceDirectory/DeleteSubject"
AUDIT = "/authmesh.audit.v1.AuditDirectory/DeleteSubject"
REQUESTS: dict[str, Any] = {
    TOKEN: token_issuer_pb2.DeleteSubjectRequest,
    AUTH: credential_directory_pb2.DeleteSubjectRequest,
    RESOURCE: resource_directory_pb2.DeleteSubjectRequest,
    AUDIT: audit_directory_pb2.DeleteSubjectRequest,
}


@pytest.fixture
def erasure(user: "UserParts") -> Erasure:
    return Erasure(user.work, user.courier)


async def commands(user: "UserParts") -> dict[str, Any]:
    rows = await user.database.fetch("SELECT destination, payload FROM outbox WHERE kind = 'command' ORDER BY id")
    return {row["destination"]: REQUESTS[row["destination"]].FromString(row["payload"]) for row in rows}


async def test_everyone_who_holds_something_is_told(user: "UserParts", erasure: Erasure) -> None:
    ada, bob = await user.new_user("ada@example.com"), await user.new_user("bob@example.com")
    await erasure.erase(ada, "", bob)
    told = await commands(user)
    assert told.keys() == REQUESTS.keys()
    assert {request.subject for request in told.values()} == {str(ada)}
    assert (told[RESOURCE].email, told[RESOURCE].new_owner) == ("ada@example.com", str(bob))
    # What ends the sessions is told at once, after the commit.
    assert user.courier.delivered == [TOKEN, AUTH]
    assert user.courier.committed == [4]
    (event,) = await user.events()
    assert (event.type, event.subject, event.email) == ("user.deleted", f"users/{ada}", "")
    assert (await subject_keys.held(user.database, [event.subject]))[event.subject] is None


async def test_what_comes_late_makes_no_one_again(user: "UserParts", erasure: Erasure) -> None:
    ada = await user.new_user("ada@example.com")
    await erasure.erase(ada, "", None)
    await user.directory.create(ada, "ada@example.com", "Ada")
    with pytest.raises(NotFound):
        await user.directory.get(ada)
    # The address is free for someone else.
    other = await user.new_user("ada@example.com")
    assert (await user.directory.lookup("ada@example.com")).id == other


async def test_a_deletion_is_refused_for_good_reasons(user: "UserParts", erasure: Erasure) -> None:
    ada, admin = await user.new_user("ada@example.com"), await user.new_administrator("admin@example.com")
    disabled = await user.new_user("bob@example.com")
    await user.administration.set_disabled(disabled, disabled=True)
    await user.database.execute("DELETE FROM outbox")
    with pytest.raises(NotFound):
        await erasure.erase(uuid7(), "", None)
    with pytest.raises(Aborted):
        await erasure.erase(ada, "stale", None)
    with pytest.raises(FailedPrecondition):
        await erasure.erase(admin, "", None)
    for new_owner in (ada, uuid7(), disabled):
        with pytest.raises(InvalidArgument) as refusal:
            await erasure.erase(ada, "", new_owner)
        assert [item.field for item in refusal.value.violations] == ["new_owner"]
    assert (await commands(user), await user.events()) == ({}, [])
    await erasure.erase(ada, (await user.directory.get(ada)).etag, admin)


async def test_an_administrator_may_go_when_another_is_left(user: "UserParts", erasure: Erasure) -> None:
    admins = [await user.new_administrator(f"{number}@example.com") for number in range(2)]
    gone = await asyncio.gather(*(erasure.erase(admin, "", None) for admin in admins), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in gone) == ["FailedPrecondition", "NoneType"]


async def test_of_two_at_once_one_finds_the_user(user: "UserParts", erasure: Erasure) -> None:
    ada, bob = await user.new_user("ada@example.com"), await user.new_user("bob@example.com")
    # Each would hand over to the other.
    gone = await asyncio.gather(
        erasure.erase(ada, "", bob),
        erasure.erase(bob, "", ada),
        erasure.erase(ada, "", None),
        return_exceptions=True,
    )
    assert gone.count(None) >= 1
    assert {type(outcome) for outcome in gone} <= {type(None), NotFound, InvalidArgument}
