"""Profiles, on a real database."""

from typing import TYPE_CHECKING

import pytest
from authmesh.resource.v1 import resource_directory_pb2

from mesh.errors import Aborted, InvalidArgument, NotFound, Reason
from mesh.ids import uuid7
from mesh.resources import page_token

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
    after = await user.directory.update(user_id, {"display_name": "Ada L."}, [], before.etag)
    assert after == await user.directory.get(user_id)
    assert (after.display_name, after.version) == ("Ada L.", 2)
    assert after.etag != before.etag
    assert after.update_time > before.update_time
    assert [event.type for event in await user.events()] == ["user.updated"]
    with pytest.raises(Aborted) as refusal:
        await user.directory.update(user_id, {"display_name": "Ada M."}, ["display_name"], before.etag)
    assert refusal.value.reason is Reason.ETAG_MISMATCH
    assert (await user.directory.get(user_id)).display_name == "Ada L."


async def test_an_update_that_changes_nothing_writes_nothing(user: "UserParts") -> None:
    user_id = await user.new_user("ada@example.com")
    before = await user.directory.get(user_id)
    for given, mask in (({"display_name": "Ada"}, ["display_name"]), ({}, []), ({"display_name": "X"}, ["etag"])):
        assert await user.directory.update(user_id, given, mask, "") == before
    assert await user.events() == []


async def test_a_refused_update_writes_nothing(user: "UserParts") -> None:
    user_id = await user.new_user("ada@example.com")
    with pytest.raises(InvalidArgument):
        await user.directory.update(user_id, {}, ["email"], "")
    with pytest.raises(NotFound):
        await user.directory.update(uuid7(), {"display_name": "Ada"}, [], "")
    assert (await user.directory.get(user_id)).version == 1


async def test_pages_hold_everybody_once_in_order(user: "UserParts") -> None:
    ids = sorted([await user.new_user(f"u{number}@example.com") for number in range(5)])
    found, token, pages = [], "", 0
    while pages == 0 or token:
        users, token = await user.directory.page(2, token, "")
        found += [item.id for item in users]
        pages += 1
    assert (found, pages) == (ids, 3)
    assert [item.email for item in (await user.directory.page(0, "", "U3@example.com"))[0]] == ["u3@example.com"]
    assert await user.directory.page(0, "", "nobody@example.com") == ([], "")


async def test_a_token_of_another_list_is_refused(user: "UserParts") -> None:
    for number in range(3):
        await user.new_user(f"u{number}@example.com")
    _, token = await user.directory.page(1, "", "")
    for wrong, email in (
        (token, "u1@example.com"),
        ("nonsense", ""),
        ("ü", ""),
        (page_token.encode("resources", str(uuid7())), ""),
        (page_token.encode("users?email=", "no uuid"), ""),
    ):
        with pytest.raises(InvalidArgument) as refusal:
            await user.directory.page(1, wrong, email)
        assert refusal.value.violations[0].field == "page_token"
