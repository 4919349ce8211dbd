"""Keeps secrets of people in the database so that the database alone opens none.

AES-256-GCM under a secret that is not in it.

The secret is a file or in Secrets Manager. KMS is not asked at a sign-in. To change it, name the new one first and the
old ones behind it (a rotation in Secrets Manager keeps the last one itself): what the old ones have sealed stays
readable, and is sealed anew when it is used next.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mesh.errors import Reason, Unavailable

_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret at rest."""

    content: bytes
    key_version: str
    """Of the key that opens it."""


class SecretBox:
    """Seals and opens."""

    def __init__(self, *held: bytes) -> None:
        """Initializes the instance.

        Args:
            held: The one that seals, and those that others were sealed with.
        """
        self.renew(held)

    def renew(self, held: Sequence[bytes]) -> None:
        """Takes other secrets."""
        keys = [HKDF(SHA256(), 32, salt=None, info=b"authmesh secrets of people v1").derive(one) for one in held]
        self._keys = {hashlib.sha256(key).hexdigest()[:16]: AESGCM(key) for key in keys}
        self._current = next(iter(self._keys))

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
