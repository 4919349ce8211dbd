from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from mesh.errors import NotFound, PermissionDenied, Reason
from services.resource.resource import Draft, Resource, Role, edited, refusal

NOW = datetime(2026, 11, 24, tzinfo=UTC)
RESOURCE = Resource(
    UUID(int=1), UUID(int=2), Draft("plan", "a"), version=1, created_at=NOW, updated_at=NOW, role=Role.EDITOR
)


def test_every_state_has_another_etag() -> None:
    states = {replace(RESOURCE, version=version).etag for version in range(1, 1_000)}
    assert len(states) == 999
    assert replace(RESOURCE, id=UUID(int=3)).etag not in states


@pytest.mark.parametrize(
    ("role", "needed", "reason"),
    [
        (None, Role.READER, Reason.RESOURCE_NOT_FOUND),
        (None, Role.OWNER, Reason.RESOURCE_NOT_FOUND),
        (Role.READER, Role.READER, None),
        (Role.READER, Role.EDITOR, Reason.ROLE_MISSING),
        (Role.EDITOR, Role.EDITOR, None),
        (Role.EDITOR, Role.OWNER, Reason.ROLE_MISSING),
        (Role.OWNER, Role.OWNER, None),
    ],
)
def test_who_may(role: Role | None, needed: Role, reason: Reason | None) -> None:
    refused = refusal(replace(RESOURCE, role=role), needed)
    assert (refused.reason if refused else None) is reason


def test_what_does_not_exist_and_what_cannot_be_seen_are_refused_alike() -> None:
    missing, unseen = refusal(None, Role.READER), refusal(replace(RESOURCE, role=None), Role.OWNER)
    assert isinstance(missing, NotFound)
    assert isinstance(unseen, NotFound)
    assert missing.message == unseen.message
    assert isinstance(refusal(RESOURCE, Role.OWNER), PermissionDenied)


def test_an_edit_takes_the_fields_that_change() -> None:
    current, given = Draft("old", "old"), Draft("new", "")
    assert edited(current, given, ["content"]) == Draft("old", "")
    assert edited(current, given, ["display_name"]) == Draft("new", "old")
    assert edited(current, given, []) == current


def test_drafts_that_differ_have_different_digests() -> None:
    assert Draft("ab", "c").digest() != Draft("a", "bc").digest()
    assert Draft("ab", "c").digest() == Draft("ab", "c").digest()
