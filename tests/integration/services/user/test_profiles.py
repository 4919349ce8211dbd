"""Profiles, on a real database."""

import uuid
from typing import TYPE_CHECKING

import pytest
from authmesh.resource.v1 import resource_directory_pb2

from mesh.errors import Aborted, NotFound, Reason
from mesh.ids import uuid7

if TYPE_CHECKING:
    from .conftest import UserParts


async def test_a_profile_is_made_once_however_often_it_is_asked_for(user: "UserParts") -> None:
    user_id = uuid7()
    for name in ("Ada", "Ada", "Somebody else"):
        await user.directory.create(user_id, "Ada@Example.com", name)
    profile = await user.directory.get(user_id)
    assert (profile.email, profile.display_name, profile.roles, profile.disabled) == (
        "ada@example.com",
        "Ada",
        (),
        False,
    )
    (event,) = await user.events()
    assert (event.type, event.subject, event.email) == ("user.created", f"users/{user_id}", "ada@example.com")
    row = await user.database.fetchrow("SELECT destination, payload FROM outbox WHERE kind = 'command'")
    assert row
    assert row["destination"] == "/authmesh.resource.v1.ResourceDirectory/ClaimShares"
    claim = resource_directory_pb2.ClaimSharesRequest.FromString(row["payload"])
    assert (claim.user_id, claim.email) == (str(user_id), "ada@example.com")


async def test_people_are_found_by_address_in_any_case(user: "UserParts") -> None:
    user_id = await user.new_user("ada@example.com")
    assert (await user.directory.lookup("ADA@example.com")).id == user_id
    for missing in (user.directory.lookup("nobody@example.com"), user.directory.get(uuid7())):
        with pytest.raises(NotFound) as refusal:
            await missing
        assert refusal.value.reason is Reason.USER_NOT_FOUND


async def test_an_update_changes_the_name_and_the_etag(user: "UserParts") -> None:
    user_id = await user.new_user("ada@example.com")
    before = await user.directory.get(user_id)
    after = await user.directory.update(user_id, "Ada L.", before.etag)
    assert after == await user.directory.get(user_id)
    assert (after.display_name, after.version) == ("Ada L.", 2)
    assert after.etag != before.etag
    assert after.update_time > before.update_time
    assert [event.type for event in await user.events()] == ["user.updated"]
    with pytest.raises(Aborted) as refusal:
        await user.directory.update(user_id, "Ada M.", before.etag)
    assert refusal.value.reason is Reason.ETAG_MISMATCH
    assert (await user.directory.get(user_id)).display_name == "Ada L."


async def test_an_update_that_changes_nothing_writes_nothing(user: "UserParts") -> None:
    user_id = await user.new_user("ada@example.com")
    before = await user.directory.get(user_id)
    for given in ("Ada", None):
        assert await user.directory.update(user_id, given, "") == before
    assert await user.events() == []


async def test_a_refused_update_writes_nothing(user: "UserParts") -> None:
    user_id = await user.new_user("ada@example.com")
    with pytest.raises(NotFound):
        await user.directory.update(uuid7(), "Ada", "")
    assert (await user.directory.get(user_id)).version == 1


async def test_pages_hold_everybody_once_in_order(user: "UserParts") -> None:
    ids = sorted([await user.new_user(f"u{number}@example.com") for number in range(5)])
    found: list[uuid.UUID] = []
    while page := await user.directory.page(found[-1] if found else None, 2, ""):
        found += [item.id for item in page]
    assert found == ids
    assert [item.email for item in await user.directory.page(None, 9, "U3@example.com")] == ["u3@example.com"]
    assert await user.directory.page(None, 9, "nobody@example.com") == []
