"""Refresh tokens and their seals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.token.sessions.refresh_token import digest, is_refresh_token, new_refresh_token, seal, unseal


def test_a_refresh_token_has_256_random_bits_and_no_twin() -> None:
    tokens = {new_refresh_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(is_refresh_token(token) and len(digest(token)) == 32 for token in tokens)


@given(st.text())
def test_nothing_else_has_its_shape(token: str) -> None:
    assert not is_refresh_token(token)


def test_the_parent_opens_the_seal_and_nobody_else_does() -> None:
    parent, successor = new_refresh_token(), new_refresh_token()
    sealed = seal(parent, successor)
    assert unseal(parent, sealed) == successor
    with pytest.raises(ValueError):
        unseal(new_refresh_token(), sealed)
    with pytest.raises(ValueError):
        unseal(parent, sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_a_seal_shows_nothing_of_what_is_in_it() -> None:
    parent, successor = new_refresh_token(), new_refresh_token()
    assert successor.encode() not in seal(parent, successor)
    assert seal(parent, successor) != seal(parent, successor)
