"""Access tokens for tests: good ones, and every wrong one that somebody might make."""

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from mesh.tokens.keys import KeySet
from mesh.tokens.verifier import Verifier

ISSUER = "https://issuer.test"
AUDIENCE = "authmesh"
SUBJECT = "0190a1b2-c3d4-7000-8000-000000000001"
SESSION = "0190a1b2-c3d4-7000-8000-000000000002"


def encode(content: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Mint:
    """An issuer with one key."""

    def __init__(self, key_id: str = "k1") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.key_id = key_id

    @property
    def jwk(self) -> dict[str, str]:
        """The public key."""
        numbers = self.key.public_key().public_numbers()
        x, y = (encode(number.to_bytes(32)) for number in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.key_id, "alg": "ES256", "use": "sig"}

    async def jwks(self) -> bytes:
        """The key set."""
        return json.dumps({"keys": [self.jwk]}).encode()

    async def verifier(self) -> Verifier:
        """A verifier that knows the key."""
        keys = KeySet(self.jwks)
        await keys.refresh()
        return Verifier(keys, ISSUER, AUDIENCE)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """A good payload with some claims changed; None leaves one out."""
        now = int(time.time())
        good = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": SUBJECT,
            "sid": SESSION,
            "client_id": "demo",
            "scope": "user:read resource:read",
            "roles": [],
            "jti": "0190a1b2-c3d4-7000-8000-000000000003",
            "iat": now,
            "exp": now + 600,
            "auth_time": now - 5,
            "amr": ["pwd"],
        }
        return {name: value for name, value in (good | changes).items() if value is not None}

    def header(self, **changes: Any) -> dict[str, Any]:
        """A good header with some members changed; None leaves one out."""
        return {
            name: value
            for name, value in ({"alg": "ES256", "kid": self.key_id, "typ": "at+jwt"} | changes).items()
            if value is not None
        }

    def token(self, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """A signed token."""
        return self.sign(json.dumps(self.header(**(header or {}))).encode(), json.dumps(self.claims(**claims)).encode())

    def sign(self, header: bytes, payload: bytes) -> str:
        """Any two byte strings, properly signed."""
        signed = f"{encode(header)}.{encode(payload)}"
        return f"{signed}.{encode(self.raw_signature(signed.encode()))}"

    def raw_signature(self, signed: bytes) -> bytes:
        """r||s."""
        r, s = decode_dss_signature(self.key.sign(signed, ec.ECDSA(SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)
