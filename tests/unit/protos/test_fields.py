"""Every field of every request of the contract has a bound, and every string in it is text unless its proto says what
it is instead: found by reflection, so that a new RPC is under the same rules.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from mesh.contract import Contract
from mesh.rpc.fields import Field, fields_of, violations

CONTRACT = Contract.load()


@dataclass(frozen=True)
class Place:
    """A field somewhere in a request."""

    request: str
    path: tuple[str, ...]
    field: Field

    def __str__(self) -> str:
        return f"{self.request.rpartition('.')[2]}.{'.'.join(self.path)}"

    def filled(self, value: str | list[str] | list[bytes]) -> Message:
        """The request with this value in the field, and nothing else."""
        request = message = CONTRACT.message_type(self.request)()
        for name in self.path[:-1]:
            message = getattr(message, name)
        if self.field.repeated:
            getattr(message, self.path[-1]).extend(value if isinstance(value, list) else [value])
        else:
            setattr(message, self.path[-1], value)
        return request

    def value(self, request: Message) -> str:
        """What the field holds."""
        content = request
        for name in self.path:
            content = getattr(content, name)
        return str(content[0] if self.field.repeated else content)  # type: ignore[index]


def places(request: str, message: Descriptor, path: tuple[str, ...] = ()) -> Iterator[Place]:
    for field in fields_of(message):
        if field.message is not None:
            yield from places(request, field.message, (*path, field.name))
        if field.message is None or field.repeated:
            yield Place(request, (*path, field.name), field)


REQUESTS = sorted({rpc.input_type for rpc in CONTRACT.rpcs.values()})
TYPES = {request: CONTRACT.message_type(request).DESCRIPTOR for request in REQUESTS}
PLACES = [place for request in REQUESTS for place in places(request, TYPES[request])]  # type: ignore[arg-type]
STRINGS = [place for place in PLACES if place.field.is_string]
TEXTS = [place for place in STRINGS if place.field.is_text]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_field_has_a_bound(place: Place) -> None:
    field = place.field
    if field.repeated:
        assert field.items is not None, f"{place}: add (buf.validate.field).repeated.max_items"
    if field.message is None and (field.is_string or not field.repeated):
        assert field.characters is not None or field.octets is not None, f"{place}: add a max_len or max_bytes"


def test_no_request_has_a_map() -> None:
    """Nobody needed one yet: `Field` would have to learn its bounds first."""
    assert not [place for place in PLACES if place.field.message and place.field.message.GetOptions().map_entry]


@pytest.mark.parametrize("place", STRINGS, ids=str)
def test_a_string_beyond_its_bound_is_refused_by_name_and_not_quoted(place: Place) -> None:
    longest = place.field.characters or place.field.octets or 0
    (broken,) = violations(place.filled("x" * (longest + 1)))
    assert broken.field == ".".join(place.path)
    assert "xx" not in broken.description
    assert not list(violations(place.filled("x" * longest)))


@pytest.mark.parametrize("place", [place for place in STRINGS if place.field.repeated], ids=str)
def test_more_items_than_allowed_are_refused_as_one(place: Place) -> None:
    most = place.field.items or 0
    (broken,) = violations(place.filled(["x"] * (most + 1)))
    assert (broken.field, broken.description) == (".".join(place.path), f"must have at most {most} items")
    assert not list(violations(place.filled(["x"] * most)))


@pytest.mark.parametrize("place", STRINGS, ids=str)
def test_no_string_holds_nul_which_postgresql_can_t_store(place: Place) -> None:
    (broken,) = violations(place.filled("a\0b"))
    assert broken.field == ".".join(place.path)


@pytest.mark.parametrize("place", TEXTS, ids=str)
def test_every_text_falls_under_the_one_rule(place: Place) -> None:
    for unseen in ("\x1b[1m", "a\u202eb", "a\u2066b", "a\u200cb", "a\u200bb"):
        (broken,) = violations(place.filled(unseen))
        assert broken.field == ".".join(place.path)
    for given, kept in ((" Zoe\u0308 ", "Zo\u00eb"), ("می\u200cخواهم", "می\u200cخواهم"), ("👩‍💻", "👩‍💻")):
        request = place.filled(given)
        assert not list(violations(request))
        assert place.value(request) == kept


@pytest.mark.parametrize("place", [place for place in TEXTS if place.field.characters], ids=str)
def test_text_is_measured_in_code_points_of_its_normal_form(place: Place) -> None:
    longest = place.field.characters or 0
    assert not list(violations(place.filled("e\u0301" * longest)))
    assert list(violations(place.filled("e\u0301" * (longest + 1))))


def test_what_people_are_shown_is_text() -> None:
    names = [place for place in STRINGS if place.path[-1] in ("display_name", "title", "description", "comment")]
    assert len(names) >= 7
    assert all(place.field.is_text for place in names)


def test_no_credential_is_changed() -> None:
    secret = ("password", "token", "code", "totp", "challenge", "assertion")
    credentials = [place for place in STRINGS if any(word in place.path[-1] for word in secret)]
    credentials = [place for place in credentials if place.path[-1] not in ("page_token", "resume_token")]
    assert len(credentials) > 10
    for place in credentials:
        request = place.filled(" e\u0301\n")
        assert not list(violations(request))
        assert place.value(request) == " e\u0301\n"


def test_only_so_many_faults_are_looked_for_as_somebody_asks_for() -> None:
    (scopes,) = (place for place in STRINGS if str(place) == "SignInRequest.scopes")
    assert len(list(islice(violations(scopes.filled(["\0"] * 30)), 3))) == 3
