"""Tombstones, held against what their source states in its chain (`mesh.audit.tombstone`).

A tombstone says itself which hash it stands for, so the chain alone does not tell a true one from one that was put over
an event to hide it.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from services.audit.trail.event_codec import Link


@dataclass(frozen=True, slots=True)
class Unstated:
    """A tombstone that its source does not vouch for."""

    sequence: int
    digest: bytes
    """SHA-256 of the tombstone."""
    listed: datetime | None
    """When a checkpoint first listed its object."""


class Parkings:
    """Those of one source."""

    def __init__(self) -> None:
        self._tombstones: defaultdict[tuple[int, bytes], dict[bytes, datetime | None]] = defaultdict(dict)
        self._stated: defaultdict[tuple[int, bytes], set[bytes]] = defaultdict(set)
        self._standing: set[tuple[int, bytes]] = set()
        """Numbers and hashes at which a tombstone is all that there is."""

    def saw(self, link: Link, listed: datetime | None) -> None:
        """Takes in any link of the source, wherever it stands."""
        place = link.sequence, link.hash
        if link.is_tombstone:
            known = self._tombstones[place]
            known[link.digest] = min(filter(None, (listed, known.get(link.digest))), default=None)
        else:
            self._standing.discard(place)

    def walked(self, link: Link) -> None:
        """Takes in a link that is part of the chain beyond doubt."""
        if link.is_tombstone:
            self._standing.add((link.sequence, link.hash))
        if link.parking:
            self._stated[link.parking.sequence, link.parking.hash].add(link.parking.tombstone)

    def parked(self) -> list[int]:
        """Numbers at which a tombstone stands for an event that is not there."""
        return sorted(place[0] for place in self._standing)

    def unstated(self) -> Iterator[Unstated]:
        """Tombstones that no statement names."""
        for place, tombstones in sorted(self._tombstones.items()):
            for digest, listed in tombstones.items():
                if digest not in self._stated[place]:
                    yield Unstated(place[0], digest, listed)
