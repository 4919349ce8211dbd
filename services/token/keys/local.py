"""Private keys in Token's database, protected by a secret that is not in it: no AWS needed, and no AWS asked."""

import stat
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.token.keys.key import SigningKey
from services.token.keys.key_manager import NewKey, seal, unseal
from services.token.keys.signer import (
    Algorithm,
    LocalSigner,
    PrivateKey,
    algorithm_of,
    new_private_key,
    public_jwk,
    thumbprint,
)

SECRET_BYTES = 32
"""The least that a secret file holds."""


class SecretFileInvalidError(ValueError):
    """The file holds no secret; the message names it."""


class LocalKeys:
    """The custody. Database and secret together are the keys."""

    name = "local"

    def __init__(self, secret: bytes) -> None:
        """Initializes the instance.

        Args:
            secret: At least 32 bytes, random.
        """
        self._secret = HKDF(SHA256(), 32, salt=None, info=b"authmesh signing keys v1").derive(secret)

    @classmethod
    def from_file(cls, file: Path) -> Self:
        """With the secret in a file.

        Raises:
            SecretFileInvalidError: it is missing, unreadable, too short, or others may read it.
        """
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
        return cls(secret)

    async def create(self, algorithm: Algorithm) -> NewKey:
        """Makes a key."""
        return self.adopt(new_private_key(algorithm))

    def adopt(self, key: PrivateKey) -> NewKey:
        """Takes a key that was made elsewhere."""
        members = public_jwk(key.public_key())
        key_id = thumbprint(members)
        return NewKey(key_id, algorithm_of(key), members, seal(key, key_id, self._secret))

    async def open(self, key: SigningKey) -> LocalSigner:
        """What signs with it.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: it was sealed with another secret.
        """
        assert key.material is not None
        return LocalSigner(unseal(key.material, key.key_id, self._secret))

    async def destroy(self, key: SigningKey) -> None:
        """Nothing of it is outside the database."""
