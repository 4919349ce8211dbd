"""What a verification finds, what operators acknowledged of it, and what it says in the end."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

LISTED = 1_000
"""Findings that are kept; further ones are counted."""


class Kind(StrEnum):
    """What happened to a piece of the trail."""

    DELETED = "deleted"
    """It was there: a checkpoint vouches for it."""
    MISSING = "missing"
    """No checkpoint vouches for it, and what comes after it is there."""
    CHANGED = "changed"
    REORDERED = "reordered"
    FORGED = "forged"
    """An event under a number that the chain gives to another one, an object that the consumer did not write, or a
    statement that its key never signed.
    """
    REPLAYED = "replayed"
    """A true checkpoint or acknowledgement in the place of another."""
    OVERDUE = "overdue"
    """The newest checkpoint is too old: what came after it may have been cut off."""
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was written."""

    kind: Kind
    text: str
    """For people: what, where, and how that is known."""
    about: str
    """Exactly what was found, content by its hash. It stays the same as long as that does, and is another one when
    anything else is found."""
    source: str = ""
    sequence: int = 0
    """The event concerned, or the first of them."""
    last: int = 0
    """The last of them, where there are several."""
    checkpoint: int = 0
    """The number of the checkpoint concerned."""
    object: str = ""
    """The key of the object concerned."""

    @property
    def id(self) -> str:
        """Names the finding, in this and in every later verification."""
        return hashlib.sha256(json.dumps([self.kind, self.about]).encode()).hexdigest()

    @property
    def can_be_acknowledged(self) -> bool:
        """What may hide something else that is not known yet can't be."""
        return self.kind is not Kind.OVERDUE

    def document(self) -> dict[str, Any]:
        """The finding for programs, in the members of JSON."""
        return {"id": self.id} | asdict(self)


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """That an operator knows about something, and why that is so."""

    number: int
    """Of the statement."""
    time: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A finding that was acknowledged."""

    finding: Finding
    acknowledgement: Acknowledgement


class Verdict(StrEnum):
    """What a verification says in the end."""

    INTACT = "intact"
    ACKNOWLEDGED = "acknowledged"
    """All that was found was acknowledged."""
    NOT_INTACT = "not intact"


@dataclass
class Report:
    """The result of a verification."""

    findings: list[Finding] = field(default_factory=list)
    """What no one acknowledged. Checkpoints first, then each source in the order of its numbers, objects last."""
    unlisted: int = 0
    """How many there are beyond the first thousand."""
    acknowledged: list[Acknowledged] = field(default_factory=list)
    unlisted_acknowledged: int = 0
    """How many there are beyond the first thousand."""
    events: dict[str, int] = field(default_factory=dict)
    """Events that stand in the chain, by source."""
    unsigned: dict[str, int] = field(default_factory=dict)
    """Those of them that are newer than the newest checkpoint: linked, but not vouched for yet."""
    repetitions: int = 0
    """Lines that say again what another line said: delivered twice, which is allowed."""
    pending: list[str] = field(default_factory=list)
    """What is not there yet and may still be on its way."""
    parked: list[str] = field(default_factory=list)
    """Numbers at which a tombstone stands for an event that could not be delivered, as its source states: look into its
    `outbox_parked`."""
    objects: int = 0
    checkpoints: int = 0
    newest: datetime | None = None
    """Time of the newest checkpoint."""
    acknowledgements: int = 0
    """Statements of operators that are believed."""
    unjudged: int = 0
    """Statements of operators that acknowledge nothing, because no key to believe them by was given."""
    known: dict[str, Acknowledgement] = field(default_factory=dict, repr=False)
    """What the believed ones acknowledge, by the id of the finding. To be there before the first finding is added."""

    @property
    def verdict(self) -> Verdict:
        """The result in a word."""
        if self.findings:
            return Verdict.NOT_INTACT
        return Verdict.ACKNOWLEDGED if self.acknowledged else Verdict.INTACT

    @property
    def intact(self) -> bool:
        """Whether nothing was found."""
        return self.verdict is Verdict.INTACT

    def add(self, finding: Finding) -> None:
        """Takes a finding down, once."""
        known = self.known.get(finding.id) if finding.can_be_acknowledged else None
        if known is not None:
            acknowledged = Acknowledged(finding, known)
            if len(self.acknowledged) >= LISTED:
                self.unlisted_acknowledged += 1
            elif acknowledged not in self.acknowledged:
                self.acknowledged.append(acknowledged)
        elif len(self.findings) >= LISTED:
            self.unlisted += 1
        elif finding not in self.findings:
            self.findings.append(finding)

    def document(self) -> dict[str, Any]:
        """The report for programs, in the members of JSON."""
        return {
            "verdict": self.verdict,
            "intact": self.intact,
            "findings": [finding.document() for finding in self.findings],
            "unlisted": self.unlisted,
            "acknowledged": [
                item.finding.document()
                | {"acknowledgement": asdict(item.acknowledgement) | {"time": item.acknowledgement.time.isoformat()}}
                for item in self.acknowledged
            ],
            "unlistedAcknowledged": self.unlisted_acknowledged,
            "events": self.events,
            "unsigned": self.unsigned,
            "repetitions": self.repetitions,
            "pending": self.pending,
            "parked": self.parked,
            "objects": self.objects,
            "checkpoints": self.checkpoints,
            "newest": self.newest.isoformat() if self.newest else None,
            "acknowledgements": self.acknowledgements,
            "unjudged": self.unjudged,
        }
