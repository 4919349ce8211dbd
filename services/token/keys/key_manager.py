"""The port behind which private keys are kept, and how one is protected at rest."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from mesh.errors import Reason, Unavailable
from services.token.keys.key import SigningKey
from services.token.keys.signer import Algorithm, PrivateKey, Signer

_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made."""

    key_id: str
    algorithm: Algorithm
    public_jwk: Mapping[str, str]
    material: bytes
    """See `SigningKey.material`."""


class KeyManager(Protocol):
    """Makes keys, and signs with them."""

    name: str
    """`SigningKey.custody` of its keys."""

    async def create(self, algorithm: Algorithm) -> NewKey:
        """Makes a key.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: not now.
        """

    async def open(self, key: SigningKey) -> Signer:
        """What signs with a key of this custody whose material was not erased.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: not now, or its material is not this custody's.
        """

    async def destroy(self, key: SigningKey) -> None:
        """Destroys what of the private key is kept outside the database. A repeat is not an error.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: not now.
        """


class Custodies:
    """The custodies of a deployment: one makes new keys; others may still have keys from before."""

    def __init__(self, chosen: KeyManager, *others: KeyManager) -> None:
        """Initializes the instance.

        Args:
            chosen: Makes new keys.
            others: Have keys from before.
        """
        self.chosen = chosen
        self._by_name = {custody.name: custody for custody in (chosen, *others)}

    def of(self, key: SigningKey) -> KeyManager:
        """Who has a key.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: a custody that this process was not configured for.
        """
        custody = self._by_name.get(key.custody)
        if custody is None:
            raise Unavailable(
                Reason.KEYS_UNAVAILABLE, f"this deployment has no access to keys of the custody {key.custody}"
            )
        return custody


def seal(key: PrivateKey, key_id: str, secret: bytes) -> bytes:
    """A private key encrypted with AES-256-GCM.

    Args:
        key: What to protect.
        key_id: Bound to it: moved to another row it can't be opened.
        secret: 32 bytes.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    content = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return nonce + AESGCM(secret).encrypt(nonce, content, key_id.encode())


def unseal(sealed: bytes, key_id: str, secret: bytes) -> PrivateKey:
    """The private key.

    Raises:
        Unavailable: KEYS_UNAVAILABLE: sealed with another secret or for another key, or damaged.
    """
    try:
        content = AESGCM(secret).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], key_id.encode())
    except (InvalidTag, ValueError) as error:
        raise Unavailable(
            Reason.KEYS_UNAVAILABLE, "the signing key can't be opened with this deployment's secret"
        ) from error
    key = load_der_private_key(content, password=None)
    assert isinstance(key, PrivateKey)
    return key
