"""Acknowledgements: what operators know about, of all that a verification finds, in signed statements of their own.

They are signed by a key that no service may use: who can write the trail can't explain away what is wrong with it. Each
names the findings by what exactly was found, so it covers nothing that is found later; and the checkpoints name the
newest one, so it can be neither deleted nor replaced.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.audit.proof.checkpoints import Anchor
from services.audit.proof.findings import Acknowledgement, Finding, Kind
from services.audit.proof.statement import PinnedKey, Series, StatementError, digest, signed_part
from services.audit.trail.archive import Archive

SERIES = Series("acknowledgements/")
VERSION = 1
TYPE = "acknowledgement"
MAX_REASON, MAX_BY = 1_000, 200


@dataclass(frozen=True, slots=True)
class Known:
    """A finding, as a statement names it."""

    kind: Kind
    about: str
    text: str
    """What it said when it was acknowledged, for people who read the statement."""

    @property
    def id(self) -> str:
        """That of the finding."""
        return Finding(self.kind, "", self.about).id


@dataclass(frozen=True, slots=True)
class Statement:
    """What an acknowledgement says."""

    acknowledgement: Acknowledgement
    trail: str
    """Fingerprint of the key of the trail's checkpoints."""
    previous: bytes
    """Hash of the statement before it; empty in the first."""
    findings: tuple[Known, ...]

    def encode(self) -> bytes:
        """The bytes that are signed."""
        document = {
            "version": VERSION,
            "type": TYPE,
            "number": self.acknowledgement.number,
            "time": self.acknowledgement.time.astimezone(UTC).isoformat(),
            "by": self.acknowledgement.by,
            "reason": self.acknowledgement.reason,
            "trail": self.trail,
            "previous": self.previous.hex(),
            "findings": [{"kind": item.kind, "about": item.about, "text": item.text} for item in self.findings],
        }
        return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def statement(
    findings: Sequence[Finding], after: Anchor | None, *, trail: str, time: datetime, by: str, reason: str
) -> Statement:
    """The next statement.

    Args:
        findings: What is acknowledged.
        after: The newest statement that is there; None: there is none.
        trail: Fingerprint of the key of the trail's checkpoints.
        time: When.
        by: Who.
        reason: Why.
    """
    acknowledgement = Acknowledgement(after.number + 1 if after else 1, time, by, reason)
    known = tuple(Known(finding.kind, finding.about, finding.text) for finding in findings)
    return Statement(acknowledgement, trail, after.hash if after else b"", known)


def read(key: PinnedKey, body: bytes) -> Statement:
    """What a stored acknowledgement says.

    Raises:
        StatementError: it is malformed, or not signed by this key.
    """
    signed = key.open(body)
    try:
        document: dict[str, Any] = json.loads(signed)
        if (document["type"], document["version"]) != (TYPE, VERSION):
            raise StatementError(f"it is not an acknowledgement of version {VERSION}: verify with a newer release")
        return Statement(
            Acknowledgement(
                int(document["number"]),
                datetime.fromisoformat(document["time"]),
                str(document["by"]),
                str(document["reason"]),
            ),
            trail=str(document["trail"]),
            previous=bytes.fromhex(document["previous"]),
            findings=tuple(
                Known(Kind(item["kind"]), str(item["about"]), str(item["text"])) for item in document["findings"]
            ),
        )
    except StatementError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StatementError("it is signed, and cannot be read: verify with a newer release") from error


async def newest(archive: Archive) -> Anchor | None:
    """The newest one that is there, believed or not; None when there is none.

    Raises:
        ClientError, BotoCoreError, OSError: the archive can't be read.
    """
    number = max([SERIES.number_of(key) or 0 async for key in archive.keys(SERIES.prefix)], default=0)
    body = await archive.read(SERIES.key_of(number)) if number else None
    return Anchor(number, digest(signed_part(body))) if body is not None else None
