"""SPIFFE ids: written, and read back only where they are of this mesh."""

import pytest

from mesh.spiffe import SpiffeIds

PLAIN = SpiffeIds()
KUBERNETES = SpiffeIds("authmesh", "ns/identity/sa/{node}")


@pytest.mark.parametrize(
    ("ids", "text"),
    [(PLAIN, "spiffe://authmesh/token"), (KUBERNETES, "spiffe://authmesh/ns/identity/sa/token")],
)
def test_an_id_names_its_node(ids: SpiffeIds, text: str) -> None:
    assert ids.of("token") == text
    assert ids.node(text) == "token"
    assert text.startswith(ids.prefix)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        (PLAIN, "spiffe://other/token"),
        (PLAIN, "spiffe://authmesh/ns/identity/sa/token"),
        (PLAIN, "spiffe://authmesh/"),
        (PLAIN, "https://authmesh/token"),
        (KUBERNETES, "spiffe://authmesh/token"),
        (KUBERNETES, "spiffe://authmesh/ns/other/sa/token"),
        (KUBERNETES, "spiffe://authmesh/ns/identity/sa/token/sa/auth"),
        (KUBERNETES, "spiffe://authmesh/ns/identity/sa/token\n"),
        (SpiffeIds("a.b"), "spiffe://aXb/token"),
    ],
)
def test_an_id_of_another_mesh_names_nothing(ids: SpiffeIds, text: str) -> None:
    assert ids.node(text) is None
