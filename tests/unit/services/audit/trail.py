"""A trail as the mesh writes it, in a directory, with a key of its own; and the means to tamper with it."""

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.audit import checkpoints, merkle
from services.audit.archive import Directory
from services.audit.checkpoints import Head, PinnedKey, Statement, Witnessed
from services.audit.envelope import read
from services.audit.findings import Report
from services.audit.objects import lay_out
from services.audit.verification import verify
from tests.unit.services.audit.envelopes import NOON, envelope, event

INTERVAL = timedelta(minutes=5)


def chained(first: int, last: int, *, source: str = "auth", previous: bytes = b"", **fields: Any) -> list[AuditEvent]:
    """Events as a relay numbers and links them."""
    events = []
    for sequence in range(first, last + 1):
        made = event(sequence, source=source, at=NOON + timedelta(seconds=sequence), previous_hash=previous, **fields)
        previous = chain_hash(made)
        events.append(made)
    return events


def chain_hash(sent: AuditEvent) -> bytes:
    return hashlib.sha256(sent.SerializeToString(deterministic=True)).digest()


class Trail:
    """Writes like consumer and checkpointer, then lets a test play the thief."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._heads: dict[str, Head] = {}
        self._unsigned: list[Witnessed] = []
        self.statements: list[bytes] = []
        self.now = NOON

    @property
    def pem(self) -> bytes:
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def write(self, events: Iterable[AuditEvent], *, seen: bool = True) -> list[str]:
        """Objects of the events. Returns their keys."""
        keys = []
        events = list(events)
        for item in lay_out(read(envelope(sent)) for sent in events):
            self.put(item.key, item.body)
            keys.append(item.key)
            if seen:
                leaves = [merkle.leaf(line) for line in gzip.decompress(item.body).splitlines()]
                self._unsigned.append(Witnessed(item.key, item.events, merkle.root(leaves)))
        if seen:
            for sent in events:
                self._heads[sent.source] = Head(sent.sequence, chain_hash(sent), sent.sequence)
        return keys

    def vouch(self, item: Witnessed) -> None:
        """Has the next checkpoint list an object."""
        self._unsigned.append(item)

    def checkpoint(self) -> int:
        """Signs what was written. Returns its number."""
        number = len(self.statements) + 1
        self.now += INTERVAL
        previous = checkpoints.digest(self.statements[-1]) if self.statements else b""
        statement = Statement(number, self.now, INTERVAL, previous, dict(self._heads), tuple(self._unsigned)).encode()
        self._unsigned = []
        self.statements.append(statement)
        self.put(checkpoints.key_of(number), checkpoints.seal(statement, self.sign(statement)))
        return number

    def sign(self, statement: bytes) -> bytes:
        return self._key.sign(statement, ec.ECDSA(hashes.SHA256()))

    def put(self, key: str, body: bytes) -> None:
        file = self.path / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)

    def get(self, key: str) -> bytes:
        return (self.path / key).read_bytes()

    def delete(self, key: str) -> None:
        (self.path / key).unlink()

    def edit(self, key: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """Changes the lines of an object and leaves its name."""
        lines = change([json.loads(line) for line in gzip.decompress(self.get(key)).splitlines()])
        content = b"".join(json.dumps(line, separators=(",", ":"), sort_keys=True).encode() + b"\n" for line in lines)
        self.put(key, gzip.compress(content, mtime=0))

    async def verify(self, *, pem: bytes | None = None, **options: Any) -> Report:
        return await verify(Directory(self.path), PinnedKey(pem or self.pem), **({"now": self.now} | options))


def utc(hour: int, minute: int) -> datetime:
    """A time of the day on which the events are."""
    return datetime(2026, 11, 24, hour, minute, tzinfo=UTC)
