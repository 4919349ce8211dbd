"""Addresses have one spelling, and belong to a network."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import InvalidArgument
from services.auth.address import networks, normalise
from services.mail.letter import compose

LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
HTML5_ADDRESS = rf"[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{LABEL}(?:\.{LABEL})*"
"""What the contract's rule for addresses admits."""


def test_case_does_not_make_another_address() -> None:
    assert normalise("Ada.Lovelace@Example.COM") == "ada.lovelace@example.com"


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada@exämple.com",
        "\u0131nfo@example.com",
        "a\0@example.com",
        "a" * 65 + "@example.com",
        "@example.com",
        ".ada@example.com",
        "ada.@example.com",
        "a..da@example.com",
        "ada",
        "ada@",
        "ada@localhost",
        "ada@example.com@example.org",
        "ada@192.0.2.7",
        "ada@example.com.",
        "ada@" + "e" * 250 + ".com",
    ],
)
def test_an_address_that_no_letter_can_be_sent_to_is_refused(email: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        normalise(email)
    assert refusal.value.violations[0].field == "email"


@pytest.mark.parametrize(
    "email", ["a" * 64 + "@example.com", "o'neill+home@mail.example.co.uk", "a.b.c@xn--e1afmkfd.xn--p1ai", "1@2.de"]
)
def test_an_unusual_address_is_one_all_the_same(email: str) -> None:
    assert normalise(email) == email


@given(st.from_regex(HTML5_ADDRESS, fullmatch=True))
def test_of_every_address_that_is_admitted_a_letter_can_be_made(email: str) -> None:
    """Or its message would end among the dead letters, which anybody could fill."""
    try:
        admitted = normalise(email)
    except InvalidArgument:
        return
    assert (
        compose(json.dumps({"email": admitted, "kind": "sign_up_exists", "sent_time": "2026-03-04T05:06:07+00:00"})).to
        == admitted
    )


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", ("203.0.113.0/24", "203.0.113.77/32")),
        ("::ffff:203.0.113.77", ("203.0.113.0/24", "203.0.113.77/32")),
        ("2001:db8:1:203:3:4:5:6", ("2001:db8:1::/48", "2001:db8:1:200::/56", "2001:db8:1:203::/64")),
        ("", ("",)),
        ("nonsense", ("",)),
    ],
)
def test_an_address_belongs_to_networks_that_lie_in_one_another(address: str, network: tuple[str, ...]) -> None:
    assert networks(address) == network
