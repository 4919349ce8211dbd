"""The port behind which the signing key is, and its form with the key in memory."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

Algorithm = Literal["ES256", "RS256"]
"""`alg` of tokens (RFC 7518): what the mesh can sign with."""
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

RSA_BITS = 2048
_COORDINATE_BYTES = 32
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Signer(Protocol):
    """Signs access tokens with one key."""

    @property
    def algorithm(self) -> Algorithm:
        """`alg` of the tokens."""

    @property
    def key_id(self) -> str:
        """`kid` of the key: its thumbprint (RFC 7638)."""

    async def sign(self, signed: bytes) -> bytes:
        """The JWS signature of these bytes.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: the key is out of reach.
        """


class ActiveKey(Protocol):
    """Knows which key signs now."""

    async def active(self) -> Signer:
        """The key to sign the next token with.

        Raises:
            Unavailable: KEYS_UNAVAILABLE or DEPENDENCY_UNAVAILABLE: no one can tell, or there is none.
        """


class KeyFileInvalidError(ValueError):
    """The file holds no key that tokens may be signed with; the message names the file."""


class LocalSigner:
    """A key in memory. ES256 takes some 60 us and RS256 some 400: too little for a thread."""

    def __init__(self, key: PrivateKey) -> None:
        """Initializes the instance.

        Args:
            key: On P-256, or RSA.
        """
        self._key = key
        self.algorithm: Algorithm = algorithm_of(key)
        self.key_id = thumbprint(public_jwk(key.public_key()))

    async def sign(self, signed: bytes) -> bytes:
        """The signature: r||s for ES256 (RFC 7518, section 3.4)."""
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(signed, PKCS1v15(), SHA256())
        return raw_signature(self._key.sign(signed, ec.ECDSA(SHA256())))


def new_private_key(algorithm: Algorithm) -> PrivateKey:
    """A new key for an algorithm."""
    return (
        ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else rsa.generate_private_key(65537, RSA_BITS)
    )


def read_private_key(file: Path) -> PrivateKey:
    """Reads a PEM file.

    Raises:
        KeyFileInvalidError: it is missing, unreadable, encrypted, or of another kind of key.
    """
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileInvalidError(f"{file}: not a PEM private key without passphrase") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise KeyFileInvalidError(f"{file}: not a key on P-256, nor an RSA key")
    try:
        algorithm_of(key)
    except ValueError as error:
        raise KeyFileInvalidError(f"{file}: {error}") from error
    return key


def algorithm_of(key: PrivateKey | PublicKey) -> Algorithm:
    """What a key signs with.

    Raises:
        ValueError: it is on another curve, or too weak.
    """
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        if key.key_size < RSA_BITS:
            raise ValueError(f"an RSA key has at least {RSA_BITS} bits")
        return "RS256"
    if not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a key on P-256")
    return "ES256"


def raw_signature(der: bytes) -> bytes:
    """An ECDSA signature on P-256 as JWS wants it.

    r||s, 32 bytes each (RFC 7518, section 3.4), where OpenSSL and KMS give ASN.1.

    Raises:
        ValueError: it is not DER, or r or s is not in 1..n-1.
    """
    r, s = decode_dss_signature(der)
    if not (0 < r < _P256_ORDER and 0 < s < _P256_ORDER):
        raise ValueError("no signature on P-256")
    return r.to_bytes(_COORDINATE_BYTES) + s.to_bytes(_COORDINATE_BYTES)


def public_jwk(key: PublicKey) -> dict[str, str]:
    """The required members of a public key's JWK (RFC 7518, sections 6.2.1 and 6.3.1)."""
    if isinstance(key, rsa.RSAPublicKey):
        return {name: RSAAlgorithm.to_jwk(key, as_dict=True)[name] for name in ("e", "kty", "n")}
    return {name: ECAlgorithm.to_jwk(key, as_dict=True)[name] for name in ("crv", "kty", "x", "y")}


def thumbprint(members: Mapping[str, str]) -> str:
    """RFC 7638: the SHA-256 of the required members, sorted, without white space."""
    return _base64url(
        hashlib.sha256(json.dumps(dict(members), sort_keys=True, separators=(",", ":")).encode()).digest()
    )


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
