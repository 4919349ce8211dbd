"""Refresh tokens: opaque, 256 random bits, kept only as a hash.

A spent one keeps its successor, encrypted.
"""

import base64
import hashlib
import re
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

# The prefix lets scanners for leaked secrets find one, and tells it from an access token.
_SHAPE = re.compile(r"amrt_[A-Za-z0-9_-]{43}")
_NONCE_BYTES = 12


def new_refresh_token() -> str:
    """A new one."""
    return "amrt_" + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def is_refresh_token(token: str) -> bool:
    """Whether a string has the shape of one."""
    return _SHAPE.fullmatch(token) is not None


def digest(token: str) -> bytes:
    """What is stored in its place. No salt and no stretching: there is nothing to guess in 256 random bits."""
    return hashlib.sha256(token.encode()).digest()


def seal(parent: str, successor: str) -> bytes:
    """Encrypts a successor so that only who holds the parent can read it.

    The database, and a thief of it, cannot.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(_key(parent)).encrypt(nonce, successor.encode(), digest(parent))


def unseal(parent: str, sealed: bytes) -> str:
    """The successor of a parent.

    Raises:
        ValueError: sealed for another parent, or damaged.
    """
    try:
        return AESGCM(_key(parent)).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], digest(parent)).decode()
    except InvalidTag as error:
        raise ValueError("not sealed for this token") from error


def _key(parent: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"authmesh refresh successor v1").derive(parent.encode())
