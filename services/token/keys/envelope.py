"""Private keys in Token's database, each protected by a data key that only KMS can open.

Signing costs what a local key costs.

KMS is asked once per key and process. A key lives for hours, so that one taken from a process's memory is soon worth
nothing.
"""

from collections.abc import Mapping
from typing import Any

from services.token.keys.key import SigningKey
from services.token.keys.key_manager import NewKey, seal, unseal
from services.token.keys.kms import MANAGE_SECONDS, kms_call
from services.token.keys.signer import Algorithm, LocalSigner, new_private_key, public_jwk, thumbprint

_LENGTH_BYTES = 2


class KmsRootedKeys:
    """The custody.

    `material` of its keys is the data key as KMS encrypted it, preceded by its length, and the private key encrypted
    with it.
    """

    name = "kms-rooted"

    def __init__(self, client: Any, root_key: str, *, issuer: str) -> None:
        """Initializes the instance.

        Args:
            client: aiobotocore's, of KMS.
            root_key: Id, ARN or alias of the symmetric key in KMS.
            issuer: Part of the encryption context, which CloudTrail shows and the key's policy may demand.
        """
        self._client = client
        self._root_key = root_key
        self._issuer = issuer

    async def create(self, algorithm: Algorithm) -> NewKey:
        """Makes a key here, and has KMS protect it.

        Raises:
            Unavailable: KEYS_UNAVAILABLE.
        """
        key = new_private_key(algorithm)
        members = public_jwk(key.public_key())
        key_id = thumbprint(members)
        async with kms_call("GenerateDataKey", MANAGE_SECONDS):
            data_key = await self._client.generate_data_key(
                KeyId=self._root_key, KeySpec="AES_256", EncryptionContext=self._context(key_id)
            )
        encrypted: bytes = data_key["CiphertextBlob"]
        material = len(encrypted).to_bytes(_LENGTH_BYTES) + encrypted + seal(key, key_id, data_key["Plaintext"])
        return NewKey(key_id, algorithm, members, material)

    async def open(self, key: SigningKey) -> LocalSigner:
        """What signs with it.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: KMS is out of reach or has disabled the root, or the material is not of this
                key and issuer.
        """
        assert key.material is not None
        length = int.from_bytes(key.material[:_LENGTH_BYTES])
        encrypted, sealed = key.material[_LENGTH_BYTES:][:length], key.material[_LENGTH_BYTES + length :]
        async with kms_call("Decrypt", MANAGE_SECONDS):
            answer = await self._client.decrypt(
                KeyId=self._root_key, CiphertextBlob=encrypted, EncryptionContext=self._context(key.key_id)
            )
        return LocalSigner(unseal(sealed, key.key_id, answer["Plaintext"]))

    async def destroy(self, key: SigningKey) -> None:
        """Nothing of it is outside the database."""

    def _context(self, key_id: str) -> Mapping[str, str]:
        return {"authmesh:issuer": self._issuer, "authmesh:kid": key_id}
