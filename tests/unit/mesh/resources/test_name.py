"""Names are made and taken apart by one rule."""

from uuid import UUID

import pytest

from mesh.resources.name import CLIENT, SESSION, USER

ID = UUID("01a2193c-3c6f-7887-ba4c-4f2581544290")


def test_a_name_has_its_ids_between_the_collections() -> None:
    assert USER.of(ID) == f"users/{ID}"
    assert SESSION.of(ID, "s") == f"users/{ID}/sessions/s"


def test_what_was_made_is_taken_apart() -> None:
    assert SESSION.ids(SESSION.of(ID, "s")) == (str(ID), "s")
    assert SESSION.id(SESSION.of(ID, "s")) == "s"
    assert CLIENT.id("clients/demo") == "demo"


@pytest.mark.parametrize("name", ["", "users", "user/1", "clients/1", "users/1/sessions/2", "users/1/2", "/users/1"])
def test_another_name_is_none_of_these(name: str) -> None:
    with pytest.raises(ValueError, match="users"):
        USER.ids(name)


def test_ids_and_collections_are_as_many() -> None:
    with pytest.raises(ValueError, match="zip"):
        SESSION.of(ID)
