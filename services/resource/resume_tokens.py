"""Resume tokens: where in the log a watch goes on.

The numbers of the log count the changes of everyone. Read by a client they would tell what happens to others: whether
sharing with an address made a change for someone, and so whether it has an account. So tokens are sealed, each
differently, and valid for one person.
"""

import hashlib
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mesh.errors import field_invalid
from mesh.storage.database import Database

_NONCE_BYTES = 12
_POSITION_BYTES = 8


@dataclass(frozen=True, slots=True)
class Seal:
    """Seals and opens the tokens of one person."""

    _cipher: AESGCM
    _user: UUID

    def seal(self, position: int) -> str:
        """A token for the place behind `position`. No two are alike."""
        nonce = os.urandom(_NONCE_BYTES)
        return urlsafe_b64encode(
            nonce + self._cipher.encrypt(nonce, position.to_bytes(_POSITION_BYTES), self._user.bytes)
        ).decode()

    def open(self, token: str) -> int:
        """The position that `seal` was given.

        Raises:
            InvalidArgument: FIELD_INVALID `resume_token`: it is not a token of this person.
        """
        try:
            sealed = urlsafe_b64decode(token.encode())
            return int.from_bytes(self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._user.bytes))
        except (Error, ValueError, InvalidTag):
            raise field_invalid(
                "resume_token", "is not a token of this list. Watch without a token, and list the resources again"
            ) from None


class ResumeTokens:
    """The seals of everyone, from a secret that all replicas share."""

    def __init__(self, database: Database) -> None:
        """Initializes the instance.

        Args:
            database: Where the secret is.
        """
        self._database = database
        self._cipher: AESGCM | None = None

    async def of(self, user: UUID) -> Seal:
        """The seal of one person."""
        if self._cipher is None:
            secret: bytes = await self._database.fetchval("SELECT token_secret FROM change_head")
            self._cipher = AESGCM(hashlib.sha256(b"resume tokens" + secret).digest())
        return Seal(self._cipher, user)
