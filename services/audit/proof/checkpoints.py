"""Checkpoints: signed statements of what the trail held at a time. Each names the hash of the one before it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from services.audit.proof.statement import PinnedKey, Series, StatementError

SERIES = Series("checkpoints/")
VERSION = 1


class CheckpointError(StatementError):
    """What is stored is not a checkpoint of ours. Says why."""


@dataclass(frozen=True, slots=True)
class Head:
    """How far a source's chain reaches without a gap."""

    sequence: int
    hash: bytes
    """Of the event with that number: it stands for all before it."""
    seen: int
    """The highest number that was there. Above `sequence` while something is missing in between."""


@dataclass(frozen=True, slots=True)
class ObjectCommitment:
    """An object that was written since the checkpoint before."""

    key: str
    events: int
    root: bytes
    """Merkle root over its lines (`services.audit.trail.merkle`)."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The newest acknowledgement: from then on it can be neither deleted nor replaced unseen."""

    number: int
    hash: bytes


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
    objects: tuple[ObjectCommitment, ...] = field(default=(), repr=False)
    acknowledgements: Anchor | None = None
    """None while there are none. Release 0.1.0 names none, and passes over it."""

    def encode(self) -> bytes:
        """The bytes that are signed: canonical JSON in ASCII, without a line feed."""
        document: dict[str, Any] = {
            "version": VERSION,
            "number": self.number,
            "time": self.time.astimezone(UTC).isoformat(),
            "intervalSeconds": int(self.interval.total_seconds()),
            "previous": self.previous.hex(),
            "sources": {
                source: {"sequence": head.sequence, "hash": head.hash.hex(), "seen": head.seen}
                for source, head in self.heads.items()
            },
            "objects": [{"key": item.key, "events": item.events, "root": item.root.hex()} for item in self.objects],
        }
        if self.acknowledgements:
            document["acknowledgements"] = {
                "number": self.acknowledgements.number,
                "hash": self.acknowledgements.hash.hex(),
            }
        return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def read(key: PinnedKey, body: bytes) -> tuple[Statement, bytes]:
    """What a stored checkpoint says, and the bytes that were signed.

    Raises:
        StatementError: it is malformed, or not signed by this key.
    """
    document = key.open(body)
    return _decode(document), document


def _decode(signed: bytes) -> Statement:
    try:
        document: dict[str, Any] = json.loads(signed)
        if document["version"] != VERSION:
            raise CheckpointError(
                f"it is of version {document['version']}, and this release knows {VERSION}: verify with a newer one"
            )
        anchor = document.get("acknowledgements")
        return Statement(
            number=int(document["number"]),
            time=datetime.fromisoformat(document["time"]),
            interval=timedelta(seconds=document["intervalSeconds"]),
            previous=bytes.fromhex(document["previous"]),
            heads={
                source: Head(int(head["sequence"]), bytes.fromhex(head["hash"]), int(head["seen"]))
                for source, head in document["sources"].items()
            },
            objects=tuple(
                ObjectCommitment(item["key"], int(item["events"]), bytes.fromhex(item["root"]))
                for item in document["objects"]
            ),
            acknowledgements=Anchor(int(anchor["number"]), bytes.fromhex(anchor["hash"])) if anchor else None,
        )
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError("it is signed, and cannot be read: verify with a newer release") from error
