"""Confidential clients for tests: their keys, and every assertion that they or somebody else might sign."""

import base64
import json
import time
import uuid
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from tests.kit.tokens import Mint, encode


def assertion(
    mint: "Mint | RsaMint", client_id: str, audience: Any, *, header: dict[str, Any] | None = None, **changes: Any
) -> str:
    """A good assertion with some members changed; None leaves one out."""
    now = int(time.time())
    good = {"iss": client_id, "sub": client_id, "aud": audience, "exp": now + 60, "iat": now, "jti": str(uuid.uuid4())}
    claims = {name: value for name, value in (good | changes).items() if value is not None}
    head = {"alg": mint.jwk["alg"], "kid": mint.key_id, "typ": "JWT"} | (header or {})
    return mint.sign(
        json.dumps({name: value for name, value in head.items() if value is not None}).encode(),
        json.dumps(claims).encode(),
    )


def jwks(*mints: "Mint | RsaMint") -> str:
    """Their public keys."""
    return json.dumps({"keys": [mint.jwk for mint in mints]})


class RsaMint:
    """Somebody with an RSA key."""

    def __init__(self, key_id: str = "r1", bits: int = 2048) -> None:
        self.key = rsa.generate_private_key(65537, bits)
        self.key_id = key_id

    @property
    def jwk(self) -> dict[str, str]:
        numbers = self.key.public_key().public_numbers()
        modulus = encode(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8))
        return {"kty": "RSA", "n": modulus, "e": "AQAB", "kid": self.key_id, "alg": "RS256", "use": "sig"}

    def sign(self, header: bytes, payload: bytes) -> str:
        signed = f"{encode(header)}.{encode(payload)}"
        return f"{signed}.{encode(self.key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"


def private_jwk(mint: Mint) -> dict[str, str]:
    """The private key, as somebody may send it by mistake."""
    number = mint.key.private_numbers().private_value
    return mint.jwk | {"d": base64.urlsafe_b64encode(number.to_bytes(32)).rstrip(b"=").decode()}
