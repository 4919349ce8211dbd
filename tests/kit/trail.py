"""A trail as the mesh writes it, in a directory, with a key of its own; and the means to tamper with it."""

import gzip
import hashlib
import json
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.audit import tombstone
from mesh.audit.canonical import canonical
from services.audit.pipeline.envelope import read
from services.audit.proof import acknowledgements, checkpoints
from services.audit.proof.checkpoints import Anchor, Head, ObjectCommitment, Statement
from services.audit.proof.findings import Finding, Report
from services.audit.proof.statement import PinnedKey, digest, seal, signed_part
from services.audit.proof.verification import verify
from services.audit.trail import merkle
from services.audit.trail.archive import LocalArchive
from services.audit.trail.objects import lay_out
from tests.kit.envelopes import NOON, envelope, event

INTERVAL = timedelta(minutes=5)


def chained(first: int, last: int, *, source: str = "auth", previous: bytes = b"", **fields: Any) -> list[AuditEvent]:
    """Events as a relay numbers and links them."""
    events = []
    for sequence in range(first, last + 1):
        made = event(sequence, source=source, at=NOON + timedelta(seconds=sequence), previous_hash=previous, **fields)
        previous = chain_hash(made)
        events.append(made)
    return events


def tombstone_of(parked: AuditEvent, **changes: str) -> AuditEvent:
    """What stands at the number of an event that nobody takes, as parking makes it."""
    stone = tombstone.numbered(parked, "Malformed")
    stone.detail.update(changes)
    return stone


def statement_of(stone: AuditEvent, sequence: int, previous: bytes, **changes: str) -> AuditEvent:
    """What vouches for a tombstone, at the end of a chain."""
    stated = tombstone.statement(stone)
    stated.sequence, stated.previous_hash = sequence, previous
    stated.event_time.FromDatetime(NOON + timedelta(seconds=sequence))
    stated.detail.update(changes)
    return stated


def woven(generator: random.Random, length: int) -> tuple[list[AuditEvent], list[AuditEvent]]:
    """A true chain, and forged branches that leave it, or each other, anywhere, or follow nothing."""
    true = chained(1, length)
    places = [(sent.sequence, chain_hash(sent)) for sent in true[:-1]]
    forged: list[AuditEvent] = []
    for number in range(generator.randint(1, 4)):
        at, previous = generator.choice(places)
        if generator.random() < 0.25:
            previous = generator.randbytes(32)
        made = chained(at + 1, min(length, at + generator.randint(1, 6)), previous=previous, actor=f"users/{number}")
        forged += made
        places += [(sent.sequence, chain_hash(sent)) for sent in made if sent.sequence < length]
    return true, forged


def chain_hash(sent: AuditEvent) -> bytes:
    return hashlib.sha256(canonical(sent)).digest()


class Trail:
    """Writes like consumer and checkpointer, then lets a test play the thief."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.operator = ec.generate_private_key(ec.SECP256R1())
        self._newest: Anchor | None = None
        self._heads: dict[str, Head] = {}
        self._unsigned: list[ObjectCommitment] = []
        self.statements: list[bytes] = []
        self.now = NOON

    @property
    def pem(self) -> bytes:
        return pem_of_key(self._key)

    @property
    def fingerprint(self) -> str:
        return PinnedKey(self.pem).fingerprint

    def write(self, events: Iterable[AuditEvent], *, seen: bool = True) -> list[str]:
        """Objects of the events. Returns their keys."""
        keys = []
        events = list(events)
        for item in lay_out(read(envelope(sent)) for sent in events):
            self.put(item.key, item.body)
            keys.append(item.key)
            if seen:
                leaves = [merkle.leaf(line) for line in gzip.decompress(item.body).splitlines()]
                self._unsigned.append(ObjectCommitment(item.key, item.events, merkle.root(leaves)))
        if seen:
            for sent in events:
                self._heads[sent.source] = Head(sent.sequence, tombstone.link(sent), sent.sequence)
        return keys

    def know(self, head: AuditEvent) -> None:
        """Has the next checkpoint vouch for the chain up to an event."""
        self._heads[head.source] = Head(head.sequence, chain_hash(head), head.sequence)

    def vouch_for_all(self) -> None:
        """Has the next checkpoint list every object, as the checkpointer does with whatever it finds."""
        for file in sorted(self.path.rglob("*.jsonl.gz")):
            self.vouch_for(file.relative_to(self.path).as_posix())

    def vouch_for(self, key: str) -> None:
        """Has the next checkpoint list what is there."""
        leaves = [merkle.leaf(line) for line in gzip.decompress(self.get(key)).splitlines()]
        self.vouch(ObjectCommitment(key, len(leaves), merkle.root(leaves)))

    def vouch(self, item: ObjectCommitment) -> None:
        """Has the next checkpoint list an object."""
        self._unsigned.append(item)

    def checkpoint(self) -> int:
        """Signs what was written. Returns its number."""
        number = len(self.statements) + 1
        self.now += INTERVAL
        previous = digest(self.statements[-1]) if self.statements else b""
        statement = Statement(
            number, self.now, INTERVAL, previous, dict(self._heads), tuple(self._unsigned), self._newest
        ).encode()
        self._unsigned = []
        self.statements.append(statement)
        self.put(checkpoints.SERIES.key_of(number), seal(statement, self.sign(statement)))
        return number

    def wait(self, checkpoints: int = 4) -> None:
        """Lets time pass, in checkpoints over nothing: what is in the trail now can't be on its way any more."""
        for _ in range(checkpoints):
            self.checkpoint()

    def acknowledge(
        self,
        findings: Sequence[Finding],
        *,
        signer: ec.EllipticCurvePrivateKey | None = None,
        trail: str = "",
        anchored: bool = True,
    ) -> str:
        """What an operator says of findings. Returns its key."""
        made = acknowledgements.statement(
            findings,
            self._newest,
            trail=trail or self.fingerprint,
            time=self.now,
            by="ada",
            reason="a drill of the 24th",
        )
        document = made.encode()
        key = acknowledgements.SERIES.key_of(made.acknowledgement.number)
        self.put(key, seal(document, (signer or self.operator).sign(document, ec.ECDSA(hashes.SHA256()))))
        if anchored:
            self._newest = Anchor(made.acknowledgement.number, digest(document))
        return key

    def replace_acknowledgement(self, findings: Sequence[Finding], *, by: str) -> None:
        """The operator's key signs another first statement."""
        document = acknowledgements.statement(
            findings, None, trail=self.fingerprint, time=self.now, by=by, reason="none"
        ).encode()
        self.put(
            acknowledgements.SERIES.key_of(1), seal(document, self.operator.sign(document, ec.ECDSA(hashes.SHA256())))
        )

    def follow_what_is_there(self) -> None:
        """The next acknowledgement follows the newest one in the bucket, whatever that is."""
        keys = sorted((self.path / acknowledgements.SERIES.prefix).iterdir())
        self._newest = Anchor(len(keys), digest(signed_part(keys[-1].read_bytes())))

    @property
    def checkpoint_key(self) -> ec.EllipticCurvePrivateKey:
        """What signs checkpoints."""
        return self._key

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
        believed: dict[str, Any] = {"now": self.now, "acknowledgement_key": PinnedKey(pem_of_key(self.operator))}
        return await verify(LocalArchive(self.path), PinnedKey(pem or self.pem), **(believed | options))


def pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Its public half."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def utc(hour: int, minute: int) -> datetime:
    """A time of the day on which the events are."""
    return datetime(2026, 11, 24, hour, minute, tzinfo=UTC)
