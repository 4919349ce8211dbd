"""A user's etag, and roles."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mesh.errors import FailedPrecondition, InvalidArgument, Reason
from services.user import roles
from services.user.profile import User

NOW = datetime(2026, 1, 1, tzinfo=UTC)
USER = User(uuid.UUID(int=1), "ada@example.com", "Ada", (), disabled=False, version=1, create_time=NOW, update_time=NOW)


def test_the_etag_follows_the_version_and_the_user() -> None:
    assert USER.etag != replace(USER, version=2).etag != replace(USER, id=uuid.UUID(int=2), version=2).etag
    assert USER.etag == replace(USER, display_name="Ada L.").etag


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
