"""Signed statements about the trail: checkpoints (`checkpoints`) and acknowledgements (`acknowledgements`).

A statement is an object of two lines, so that openssl can check it: a JSON document, and its signature. The signature
is ECDSA over P-256 and SHA-256, made by KMS over the bytes of the first line (`docs/audit.md` shows the commands).
Statements of one kind are numbered from 1, and each names the hash of the one before it.
"""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_NUMBER = re.compile(r"(\d{16})\.jsonl")


class StatementError(ValueError):
    """What is stored is not a statement of ours. Says why."""


@dataclass(frozen=True, slots=True)
class Series:
    """Where the statements of one kind are in the bucket."""

    prefix: str

    def key_of(self, number: int) -> str:
        """The key of a statement. Keys sort like numbers."""
        return f"{self.prefix}{number:016d}.jsonl"

    def number_of(self, key: str) -> int | None:
        """The number in a key; None when the key is not one of a statement."""
        matched = _NUMBER.fullmatch(key.removeprefix(self.prefix)) if key.startswith(self.prefix) else None
        return int(matched[1]) or None if matched else None


def seal(document: bytes, signature: bytes) -> bytes:
    """The object of a statement."""
    return document + b"\n" + json.dumps({"signature": base64.b64encode(signature).decode()}).encode() + b"\n"


def signed_part(body: bytes) -> bytes:
    """The document in an object, whether or not its signature is good."""
    return body.partition(b"\n")[0]


def digest(document: bytes) -> bytes:
    """What the next statement names as `previous`, and what KMS signs."""
    return hashlib.sha256(document).digest()


class PinnedKey:
    """The one public key that statements of one kind are believed from."""

    def __init__(self, pem: bytes) -> None:
        """Initializes the instance.

        Args:
            pem: The key, as `aws kms get-public-key` gives it, in PEM.

        Raises:
                StatementError: it is not a P-256 public key.
        """
        try:
            key = serialization.load_pem_public_key(pem)
        except ValueError as error:
            raise StatementError("the pinned key is not a public key in PEM") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise StatementError("the pinned key is not of the curve P-256 (KMS: ECC_NIST_P256)")
        self._key = key

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key (SubjectPublicKeyInfo, DER), for comparing by eye."""
        encoded = self._key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(encoded).hexdigest()

    def open(self, body: bytes) -> bytes:
        """The document of a stored statement.

        Raises:
            StatementError: it is malformed, or not signed by this key.
        """
        parts = body.split(b"\n")
        if len(parts) != 3 or parts[2]:
            raise StatementError("it is not a statement: not two lines")
        try:
            signature = base64.b64decode(json.loads(parts[1])["signature"], validate=True)
        except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
            raise StatementError("it has no signature") from error
        try:
            self._key.verify(signature, parts[0], ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise StatementError("it is not signed by the pinned key") from None
        return parts[0]


def pem_of(public_key: bytes) -> bytes:
    """A public key as PEM, from the DER that KMS's GetPublicKey answers with."""
    return serialization.load_der_public_key(public_key).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
