"""Where one kind of entries goes: what a sink has to do, and what is special about its kind."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from mesh.outbox.work import Work


@dataclass(frozen=True, slots=True)
class Entry:
    """A row on its way out."""

    id: int
    destination: str
    """The event's type, the message's kind, or the command's method path."""
    payload: bytes
    attempts: int
    """How often it was sent before this time."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The fate of one batch. What is in neither `accepted` nor `refused` is sent again as if nothing had been said."""

    accepted: Collection[int] = ()
    """Ids of the entries that are in the destination's hands."""
    refused: Mapping[int, str] = field(default_factory=dict)
    """Ids of entries that the destination does not want, with its word for why: it will say so again."""
    throttled: bool = False
    """Whether it asked for less."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What becomes of an entry that its destination will never take."""

    kept: bytes
    """What is put aside of its payload."""
    replacement: tuple[str, bytes] | None = None
    """Destination and payload of what takes its place, and its number, in the outbox. None: nothing does."""
    statement: tuple[str, bytes] | None = None
    """Destination and payload of an entry of the same kind that says so."""


class Sink(ABC):
    """Where one kind of entries goes."""

    kind: str
    batch: int
    """The most entries that `send` takes."""
    ready: str = "true"
    """SQL: which entries may be sent. Those that `prepare` has made ready."""

    async def prepare(self, work: Work) -> None:  # noqa: B027 - most kinds need none
        """Makes entries ready to be sent. Called before new entries are claimed, by any number of relays at once.

        Raises:
            Unavailable: the database is out of reach.
        """

    @abstractmethod
    def connect(self) -> AbstractAsyncContextManager[Any]:
        """What `send` needs, open for as long as the relay runs."""

    @abstractmethod
    async def send(self, client: Any, entries: Sequence[Entry]) -> BatchResult:
        """Sends entries. Returns what became of them; those that were not accepted are sent again."""

    def on_dead_letter(self, entry: Entry, reason: str) -> DeadLetter | None:
        """What becomes of an entry that was refused too often for what it is. None: it is sent until it is taken.

        Args:
            entry: The entry.
            reason: The destination's word for why.
        """
        return None


def join(answers: Sequence[BatchResult]) -> BatchResult:
    """Several answers as one."""
    return BatchResult(
        accepted=[number for answer in answers for number in answer.accepted],
        refused={number: why for answer in answers for number, why in answer.refused.items()},
        throttled=any(answer.throttled for answer in answers),
    )
