"""What a verification finds, and what it says in the end."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

LISTED = 1_000
"""Findings that are kept; further ones are counted."""


class Kind(StrEnum):
    """What happened to a piece of the trail."""

    DELETED = "deleted"
    """It was there: a checkpoint vouches for it."""
    MISSING = "missing"
    """No checkpoint saw it, and what comes after it is there."""
    CHANGED = "changed"
    REORDERED = "reordered"
    FORGED = "forged"
    """Another event under a number that the chain gives to somebody else, or a checkpoint that the pinned key never signed."""
    REPLAYED = "replayed"
    """A true checkpoint in the place of another."""
    OVERDUE = "overdue"
    """The newest checkpoint is too old: what came after it may have been cut off."""
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was written."""

    kind: Kind
    text: str
    """For people: what, where, and how that is known."""
    source: str = ""
    sequence: int = 0
    """The event concerned, or the first of them."""
    checkpoint: int = 0
    """The number of the checkpoint concerned."""
    object: str = ""
    """The key of the object concerned."""


@dataclass
class Report:
    """The result of a verification."""

    findings: list[Finding] = field(default_factory=list)
    """Checkpoints first, then each source in the order of its numbers, objects last."""
    unlisted: int = 0
    """Findings beyond the first thousand."""
    events: dict[str, int] = field(default_factory=dict)
    """Events that stand in the chain, by source."""
    unsigned: dict[str, int] = field(default_factory=dict)
    """Those of them that are newer than the newest checkpoint: linked, but not vouched for yet."""
    repetitions: int = 0
    """Lines that say again what another line said: delivered twice, which is allowed."""
    pending: list[str] = field(default_factory=list)
    """Numbers that are not there yet and may still be on their way."""
    parked: list[str] = field(default_factory=list)
    """Numbers at which a tombstone stands for an event that could not be delivered: look into `outbox_parked` of its source."""
    objects: int = 0
    checkpoints: int = 0
    newest: datetime | None = None
    """Time of the newest checkpoint."""

    @property
    def intact(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def add(self, finding: Finding) -> None:
        """Takes a finding down, once."""
        if len(self.findings) >= LISTED:
            self.unlisted += 1
        elif finding not in self.findings:
            self.findings.append(finding)
