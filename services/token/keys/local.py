"""Private keys in Token's database, protected by a secret that is not in it: no AWS needed, and no AWS asked."""

from collections.abc import Sequence
from contextlib import suppress

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mesh.errors import Unavailable
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


class LocalKeys:
    """The custody. Database and secret together are the keys."""

    name = "local"

    def __init__(self, *secrets: bytes) -> None:
        """Initializes the instance.

        Args:
            secrets: Each of at least 32 random bytes: the one that protects new keys, and those that protect others.
        """
        self.renew(secrets)

    def renew(self, secrets: Sequence[bytes]) -> None:
        """Takes other secrets."""
        self._secrets = [
            HKDF(SHA256(), 32, salt=None, info=b"authmesh signing keys v1").derive(secret) for secret in secrets
        ]

    async def create(self, algorithm: Algorithm) -> NewKey:
        """Makes a key."""
        return self.adopt(new_private_key(algorithm))

    def adopt(self, key: PrivateKey) -> NewKey:
        """Takes a key that was made elsewhere."""
        members = public_jwk(key.public_key())
        key_id = thumbprint(members)
        return NewKey(key_id, algorithm_of(key), members, seal(key, key_id, self._secrets[0]))

    async def open(self, key: SigningKey) -> LocalSigner:
        """What signs with it.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: it was sealed with a secret that is not there.
        """
        assert key.material is not None
        *others, last = self._secrets
        for secret in others:
            with suppress(Unavailable):
                return LocalSigner(unseal(key.material, key.key_id, secret))
        return LocalSigner(unseal(key.material, key.key_id, last))

    async def destroy(self, key: SigningKey) -> None:
        """Nothing of it is outside the database."""
