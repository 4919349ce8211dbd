"""The port behind which the signing key is, and its local form."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Protocol, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_COORDINATE_BYTES = 32


class Signer(Protocol):
    """Signs access tokens."""

    @property
    def algorithm(self) -> str:
        """`alg` of the tokens (RFC 7518)."""

    @property
    def key_id(self) -> str:
        """`kid` of the key in use: its thumbprint (RFC 7638)."""

    @property
    def jwks(self) -> bytes:
        """The public keys that tokens in circulation may be signed with, as a JWK set (RFC 7517)."""

    async def sign(self, signed: bytes) -> bytes:
        """The JWS signature of these bytes.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: the key is out of reach.
        """


class KeyFileInvalidError(ValueError):
    """The file holds no key that tokens may be signed with; the message names the file."""


class LocalSigner:
    """ES256 with a key in memory."""

    algorithm = "ES256"

    def __init__(self, key: EllipticCurvePrivateKey) -> None:
        """Args:
        key: On P-256.
        """
        self._key = key
        members = public_jwk(key.public_key())
        self.key_id = thumbprint(members)
        document = {"keys": [{**members, "kid": self.key_id, "alg": self.algorithm, "use": "sig"}]}
        self.jwks = json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def from_file(cls, file: Path) -> Self:
        """Reads a PEM file.

        Raises:
            KeyFileInvalidError: it is missing, unreadable, encrypted, or of another kind of key.
        """
        try:
            key = load_pem_private_key(file.read_bytes(), password=None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFileInvalidError(f"{file}: not a PEM private key without passphrase") from error
        if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
            raise KeyFileInvalidError(f"{file}: not a key on P-256")
        return cls(key)

    async def sign(self, signed: bytes) -> bytes:
        """The signature as r||s (RFC 7518, section 3.4)."""
        r, s = decode_dss_signature(self._key.sign(signed, ECDSA(SHA256())))
        return r.to_bytes(_COORDINATE_BYTES) + s.to_bytes(_COORDINATE_BYTES)


def public_jwk(key: EllipticCurvePublicKey) -> dict[str, str]:
    """The required members of the public JWK of a P-256 key (RFC 7518, section 6.2.1)."""
    numbers = key.public_numbers()
    return {
        "crv": "P-256",
        "kty": "EC",
        "x": _base64url(numbers.x.to_bytes(_COORDINATE_BYTES)),
        "y": _base64url(numbers.y.to_bytes(_COORDINATE_BYTES)),
    }


def thumbprint(members: dict[str, str]) -> str:
    """RFC 7638: the SHA-256 of the required members, sorted, without white space."""
    return _base64url(hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
