"""Secrets at rest: the database alone opens none."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import Reason, Unavailable
from services.auth.secret_box import Sealed, SecretBox

OLD, NEW = secrets.token_bytes(32), secrets.token_bytes(32)
BOX = SecretBox(OLD)


def refused(box: SecretBox, sealed: Sealed, purpose: str) -> None:
    with pytest.raises(Unavailable) as refusal:
        box.open(sealed, purpose)
    assert refusal.value.reason is Reason.KEYS_UNAVAILABLE


@given(st.binary(max_size=100), st.text(max_size=50))
def test_what_was_sealed_is_opened_for_its_purpose_alone(content: bytes, purpose: str) -> None:
    sealed = BOX.seal(content, purpose)
    assert BOX.open(sealed, purpose) == content
    assert content not in sealed.content or len(content) < 4
    refused(BOX, sealed, f"{purpose}x")


def test_a_secret_in_another_persons_row_opens_nothing() -> None:
    refused(BOX, BOX.seal(b"shared", "users/1 totp"), "users/2 totp")


@pytest.mark.parametrize("at", [0, 11, 12, 20, -1])
def test_a_damaged_secret_opens_nothing(at: int) -> None:
    sealed = BOX.seal(b"shared with the app", "purpose")
    content = bytearray(sealed.content)
    content[at] ^= 1
    refused(BOX, Sealed(bytes(content), sealed.key_version), "purpose")
    refused(BOX, Sealed(sealed.content[:5], sealed.key_version), "purpose")


def test_a_new_secret_seals_and_the_old_one_still_opens() -> None:
    before = BOX.seal(b"shared", "purpose")
    after = SecretBox(NEW, OLD)
    assert after.open(before, "purpose") == b"shared"
    assert after.is_outdated(before)
    again = after.seal(b"shared", "purpose")
    assert not after.is_outdated(again)
    refused(BOX, again, "purpose")
    refused(SecretBox(NEW), before, "purpose")
    # Bound to its key, too.
    refused(after, Sealed(before.content, again.key_version), "purpose")


def test_a_rotation_is_followed() -> None:
    box = SecretBox(OLD)
    before = box.seal(b"shared", "purpose")
    box.renew([NEW, OLD])
    assert box.open(before, "purpose") == b"shared"
    assert box.is_outdated(before)
