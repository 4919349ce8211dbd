"""What may be changed about a user, and by whom it may be undone."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mesh.errors import Aborted, FailedPrecondition, InvalidArgument, Reason
from services.user import roles
from services.user.profile import User, demand_etag, fields_to_change

NOW = datetime(2026, 1, 1, tzinfo=UTC)
USER = User(uuid.UUID(int=1), "ada@example.com", "Ada", (), disabled=False, version=1, create_time=NOW, update_time=NOW)


@pytest.mark.parametrize(
    ("mask", "given", "fields"),
    [
        ([], {"display_name"}, {"display_name"}),
        ([], set(), set()),
        (["display_name"], set(), {"display_name"}),
        (["display_name", "etag", "name"], set(), {"display_name"}),
        (["*"], set(), {"display_name"}),
    ],
)
def test_the_mask_says_what_changes(mask: list[str], given: set[str], fields: set[str]) -> None:
    assert fields_to_change(mask, given) == fields


@pytest.mark.parametrize("path", ["email", "roles", "disabled", "create_time", "nothing", "display_name.x", ""])
def test_a_path_that_can_not_be_changed_is_named(path: str) -> None:
    with pytest.raises(InvalidArgument, match=f"`{path}`") as refusal:
        fields_to_change(["display_name", path], {"display_name"})
    assert refusal.value.reason is Reason.FIELD_INVALID
    assert refusal.value.violations[0].field == "update_mask"


def test_the_etag_follows_the_version_and_the_user() -> None:
    assert USER.etag != replace(USER, version=2).etag != replace(USER, id=uuid.UUID(int=2), version=2).etag
    assert USER.etag == replace(USER, display_name="Ada L.").etag


def test_another_state_is_not_overwritten() -> None:
    demand_etag(USER, USER.etag)
    demand_etag(USER, "")
    with pytest.raises(Aborted) as refusal:
        demand_etag(replace(USER, version=2), USER.etag)
    assert refusal.value.reason is Reason.ETAG_MISMATCH


def test_roles_are_sorted_and_known() -> None:
    assert roles.known(["admin", "admin"]) == ("admin",)
    with pytest.raises(InvalidArgument, match="emperor") as refusal:
        roles.known(["admin", "emperor"])
    assert refusal.value.violations[0].field == "roles"


def test_the_last_administrator_stays() -> None:
    roles.demand_administrator_left({1, 2}, 1)
    roles.demand_administrator_left({2}, 1)
    roles.demand_administrator_left(set(), 1)
    with pytest.raises(FailedPrecondition) as refusal:
        roles.demand_administrator_left({1}, 1)
    assert refusal.value.reason is Reason.LAST_ADMINISTRATOR
