"""Addresses have one spelling, and belong to a network."""

import pytest

from mesh.errors import InvalidArgument
from services.auth.address import block, normalise


def test_case_does_not_make_another_address() -> None:
    assert normalise("Ada.Lovelace@Example.COM") == "ada.lovelace@example.com"


@pytest.mark.parametrize("email", ["", "ada@exämple.com", "\u0131nfo@example.com", "a\0@example.com"])
def test_what_is_not_ascii_is_no_address(email: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        normalise(email)
    assert refusal.value.violations[0].field == "email"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("", ""),
        ("nonsense", ""),
    ],
)
def test_an_address_belongs_to_its_network(address: str, network: str) -> None:
    assert block(address) == network
