"""Keeps secrets of people in the database so that the database alone opens none.

AES-256-GCM under a secret that is not in it.

The secret is a file, which a deployment mounts from Secrets Manager or makes itself. KMS is not asked at a sign-in. To
change it, name the new file first and the old ones behind it: what the old ones have sealed stays readable, and is
sealed anew when it is used next.
"""

import hashlib
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mesh.errors import Reason, Unavailable

SECRET_BYTES = 32
"""The least that a file holds."""
_NONCE_BYTES = 12


class SecretFileInvalidError(ValueError):
    """The file holds no secret; the message names it and what to do."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret at rest."""

    content: bytes
    key_version: str
    """Of the key that opens it."""


class SecretBox:
    """Seals and opens."""

    def __init__(self, *file_secrets: bytes) -> None:
        """Initializes the instance.

        Args:
            file_secrets: The one that seals, and those that others were sealed with.
        """
        keys = [
            HKDF(SHA256(), 32, salt=None, info=b"authmesh secrets of people v1").derive(one) for one in file_secrets
        ]
        self._keys = {hashlib.sha256(key).hexdigest()[:16]: AESGCM(key) for key in keys}
        self._current = next(iter(self._keys))

    @classmethod
    def from_files(cls, files: Sequence[Path]) -> Self:
        """With the secrets in files, the one that seals first.

        Raises:
            SecretFileInvalidError: one is missing, unreadable, too short, or others may read it.
        """
        return cls(*map(_read, files))

    def seal(self, content: bytes, purpose: str) -> Sealed:
        """Seals a secret.

        Args:
            content: What to protect.
            purpose: Whose it is and what for; bound to it: in another row it can't be opened.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._keys[self._current].encrypt(nonce, content, self._bound(purpose, self._current))
        return Sealed(nonce + sealed, self._current)

    def open(self, sealed: Sealed, purpose: str) -> bytes:
        """The secret.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: sealed with a key that this process does not have, for another purpose, or
                damaged.
        """
        key = self._keys.get(sealed.key_version)
        if key is None:
            raise Unavailable(Reason.KEYS_UNAVAILABLE, "sealed with a secret that this deployment does not have")
        nonce, content = sealed.content[:_NONCE_BYTES], sealed.content[_NONCE_BYTES:]
        try:
            return key.decrypt(nonce, content, self._bound(purpose, sealed.key_version))
        except (InvalidTag, ValueError) as error:
            raise Unavailable(Reason.KEYS_UNAVAILABLE, "the stored secret is damaged") from error

    def is_outdated(self, sealed: Sealed) -> bool:
        """Whether another key would seal it today."""
        return sealed.key_version != self._current

    @staticmethod
    def _bound(purpose: str, key_version: str) -> bytes:
        return f"{purpose}\0{key_version}".encode()


def _read(file: Path) -> bytes:
    try:
        secret, mode = file.read_bytes(), file.stat().st_mode
    except OSError as error:
        raise SecretFileInvalidError(f"{file}: {error.strerror}") from error
    if len(secret) < SECRET_BYTES:
        raise SecretFileInvalidError(
            f"{file}: a secret has at least {SECRET_BYTES} random bytes: head -c {SECRET_BYTES} /dev/urandom"
        )
    if mode & stat.S_IRWXO:
        raise SecretFileInvalidError(f"{file}: others may read it: chmod o= {file}")
    return secret
