"""Checkpoints: signed statements of what the trail held at a time. Each names the hash of the one before it.

A checkpoint is an object of two lines, so that openssl can check it: the statement as JSON, and its signature. The signature is ECDSA over P-256 and
SHA-256, made by KMS over the bytes of the first line (`docs/audit.md` shows the commands).
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PREFIX = "checkpoints/"
VERSION = 1

_KEY = re.compile(r"checkpoints/(\d{16})\.jsonl")


class CheckpointError(ValueError):
    """What is stored is no checkpoint of ours. Says why."""


@dataclass(frozen=True, slots=True)
class Head:
    """How far a source's chain reaches without a gap."""

    sequence: int
    hash: bytes
    """Of the event with that number: it stands for all before it."""
    seen: int
    """The highest number that was there. Above `sequence` while something is missing in between."""


@dataclass(frozen=True, slots=True)
class Witnessed:
    """An object that was written since the checkpoint before."""

    key: str
    events: int
    root: bytes
    """Merkle root over its lines (`services.audit.merkle`)."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a checkpoint says."""

    number: int
    """From 1, without gaps."""
    time: datetime
    interval: timedelta
    """The next one is due that much later, whether anything happens or not."""
    previous: bytes
    """SHA-256 of the statement before it, as it was signed. Empty for the first."""
    heads: Mapping[str, Head]
    """Of every source that ever wrote."""
    objects: tuple[Witnessed, ...] = field(default=(), repr=False)

    def encode(self) -> bytes:
        """The bytes that are signed: canonical JSON in ASCII, without a line feed."""
        document = {
            "version": VERSION,
            "number": self.number,
            "time": self.time.astimezone(UTC).isoformat(),
            "intervalSeconds": int(self.interval.total_seconds()),
            "previous": self.previous.hex(),
            "sources": {source: {"sequence": head.sequence, "hash": head.hash.hex(), "seen": head.seen} for source, head in self.heads.items()},
            "objects": [{"key": item.key, "events": item.events, "root": item.root.hex()} for item in self.objects],
        }
        return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def key_of(number: int) -> str:
    """Where the checkpoint of that number is in the bucket. Keys sort like numbers."""
    return f"{PREFIX}{number:016d}.jsonl"


def number_of(key: str) -> int | None:
    """The number in a key; None when the key is no checkpoint's."""
    matched = _KEY.fullmatch(key)
    return int(matched[1]) if matched else None


def seal(statement: bytes, signature: bytes) -> bytes:
    """The object of a checkpoint."""
    return statement + b"\n" + json.dumps({"signature": base64.b64encode(signature).decode()}).encode() + b"\n"


def digest(statement: bytes) -> bytes:
    """What the next checkpoint names as `previous`, and what KMS signs."""
    return hashlib.sha256(statement).digest()


class PinnedKey:
    """The one public key that checkpoints are believed from."""

    def __init__(self, pem: bytes) -> None:
        """Args:
        pem: The key, as `aws kms get-public-key` gives it, in PEM.

        Raises:
            CheckpointError: it is no P-256 public key.
        """
        try:
            key = serialization.load_pem_public_key(pem)
        except ValueError as error:
            raise CheckpointError("the pinned key is no public key in PEM") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise CheckpointError("the pinned key is not of the curve P-256 (KMS: ECC_NIST_P256)")
        self._key = key

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key (SubjectPublicKeyInfo, DER), for comparing by eye."""
        encoded = self._key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(encoded).hexdigest()

    def open(self, body: bytes) -> tuple[Statement, bytes]:
        """The statement of a stored checkpoint, and its bytes.

        Raises:
            CheckpointError: it is malformed, or not signed by this key.
        """
        parts = body.split(b"\n")
        if len(parts) != 3 or parts[2]:
            raise CheckpointError("it is no checkpoint: not two lines")
        try:
            signature = base64.b64decode(json.loads(parts[1])["signature"], validate=True)
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise CheckpointError("it has no signature") from error
        try:
            self._key.verify(signature, parts[0], ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise CheckpointError("it is not signed by the pinned key") from None
        return _decode(parts[0]), parts[0]


def pem_of(public_key: bytes) -> bytes:
    """A public key as PEM, from the DER that KMS's GetPublicKey answers with."""
    return serialization.load_der_public_key(public_key).public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _decode(statement: bytes) -> Statement:
    try:
        document: dict[str, Any] = json.loads(statement)
        if document["version"] != VERSION:
            raise CheckpointError(f"it is of version {document['version']}, and this release knows {VERSION}: verify with a newer one")
        return Statement(
            number=int(document["number"]),
            time=datetime.fromisoformat(document["time"]),
            interval=timedelta(seconds=document["intervalSeconds"]),
            previous=bytes.fromhex(document["previous"]),
            heads={
                source: Head(int(head["sequence"]), bytes.fromhex(head["hash"]), int(head["seen"])) for source, head in document["sources"].items()
            },
            objects=tuple(Witnessed(item["key"], int(item["events"]), bytes.fromhex(item["root"])) for item in document["objects"]),
        )
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError("it is signed, and cannot be read: verify with a newer release") from error
