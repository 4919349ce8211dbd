"""Sign-ins that wait for what the identity provider itself asks for, such as a code of its own.

What the provider needs to go on with could sign someone in: it is sealed with what only the client holds.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from authmesh.token.v1 import token_set_pb2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mesh.storage.database import Transaction
from services.auth.second_factors import CHALLENGE_ATTEMPTS

LIFETIME = timedelta(minutes=3)
"""Cognito's own, by default."""
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class WaitingSignIn:
    """A sign-in that waits. It holds what the tokens are for."""

    email: str
    state: bytes
    """The provider's."""
    client_id: str
    device: token_set_pb2.Device
    scopes: tuple[str, ...]


class Demands:
    """The table of those. Every method runs in the transaction that it is given."""

    async def add(self, tx: Transaction, waiting: WaitingSignIn, now: datetime) -> tuple[str, datetime]:
        """Writes one. Returns what answers it, and when it is void."""
        token, expire_time = secrets.token_hex(32), now + LIFETIME
        content = {
            "email": waiting.email,
            "state": waiting.state.decode(),
            "client_id": waiting.client_id,
            "device": waiting.device.SerializeToString().hex(),
            "scopes": waiting.scopes,
        }
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + AESGCM(_key(token)).encrypt(nonce, json.dumps(content).encode(), None)
        await tx.execute(
            "INSERT INTO provider_demands (digest, sealed, expire_time) VALUES ($1, $2, $3)",
            _digest(token),
            sealed,
            expire_time,
        )
        return token, expire_time

    async def attempt(self, tx: Transaction, token: str, now: datetime) -> WaitingSignIn | None:
        """The sign-in that waits for this answer, with the attempt counted. None where there is none."""
        sealed = await tx.fetchval(
            """
            UPDATE provider_demands SET attempts = attempts + 1
            WHERE digest = $1 AND expire_time > $2 AND attempts < $3 RETURNING sealed
            """,
            _digest(token),
            now,
            CHALLENGE_ATTEMPTS,
        )
        if sealed is None:
            return None
        try:
            content = json.loads(AESGCM(_key(token)).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None))
        except InvalidTag:
            return None
        return WaitingSignIn(
            email=content["email"],
            state=content["state"].encode(),
            client_id=content["client_id"],
            device=token_set_pb2.Device.FromString(bytes.fromhex(content["device"])),
            scopes=tuple(content["scopes"]),
        )

    async def spend(self, tx: Transaction, token: str) -> bool:
        """Uses it up. Of two answers at once one finds it."""
        return bool(await tx.fetchval("DELETE FROM provider_demands WHERE digest = $1 RETURNING true", _digest(token)))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _key(token: str) -> bytes:
    # Of 256 random bits, and of another form than the digest that is stored.
    return hashlib.sha256(b"demand " + token.encode()).digest()
