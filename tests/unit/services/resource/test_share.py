from uuid import UUID

import pytest
from authmesh.resource.v1 import resource_service_pb2

from services.resource.resource import Role
from services.resource.share import Change, Grantee, transition


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (None, None, None),
        (None, Role.READER, Change.ADDED),
        (Role.READER, Role.READER, None),
        (Role.READER, Role.EDITOR, Change.UPDATED),
        (Role.OWNER, Role.OWNER, None),
        (Role.EDITOR, Role.READER, Change.UPDATED),
        (Role.EDITOR, None, Change.REMOVED),
    ],
)
def test_what_people_notice_when_their_role_changes(
    before: Role | None, after: Role | None, change: Change | None
) -> None:
    assert transition(before, after) is change


def test_an_address_is_one_grantee_in_any_case_and_never_a_user() -> None:
    user = UUID(int=1)
    assert Grantee(email="Ada@Example.com").key == Grantee(email="ada@example.com").key
    assert Grantee(user=user).key == f"users/{user}"
    assert Grantee(user=user).key != Grantee(email=f"users/{user}@example.com").key


def test_numbers_are_those_of_the_contract() -> None:
    for role in Role:
        assert int(resource_service_pb2.Role.Value(f"ROLE_{role.name}")) == role
    for change in Change:
        assert int(resource_service_pb2.WatchResourcesResponse.Change.Value(f"CHANGE_{change.name}")) == change
