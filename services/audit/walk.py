"""Walking a source's chain in the order of its numbers, and saying where it breaks.

An event is vouched for by the one behind it, which holds its hash, and by checkpoints. So one number may have several candidates for a while (whoever
can write to the bucket can put a forged event beside the true one): those that nothing behind them names are the forged ones.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.audit.checkpoints import Head
from services.audit.findings import Finding, Kind
from services.audit.lines import Link

KEPT = 16
"""Bytes of each hash that are kept to know a repetition by, however late it comes."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """A checkpoint's word about one source."""

    head: Head
    checkpoint: int


@dataclass(slots=True)
class Gap:
    """Numbers that are not there and that no checkpoint vouches for."""

    first: int
    last: int
    behind: Link | None = None
    """The event that shows that they are missing."""


class Walk:
    """Through the chain of one source. Links are added in about their order; `advance` walks as far as that allows."""

    def __init__(self, source: str, base: Head | None, vouched: Mapping[int, Vouched], report: Callable[[Finding], None]) -> None:
        """Args:
        source: Whose chain it is.
        base: Where the walk begins, on the word of a checkpoint; None: before the first event.
        vouched: What checkpoints say, by the number of the event.
        report: Takes what is found.
        """
        self._source = source
        self._vouched = vouched
        self._newest = max(vouched, default=0)
        self._report = report
        self._waiting: defaultdict[int, dict[bytes, Link]] = defaultdict(dict)
        self._reached = base.sequence if base else 0
        self._candidates: dict[bytes, Link | None] = {base.hash if base else b"": None}
        self._told: set[int] = set()
        self._walked = [(self._reached + 1, bytearray())]
        self.events = 0
        """How many numbers were walked whose event is there."""
        self.unsigned = 0
        """How many of them no checkpoint covers yet."""
        self.repetitions = 0
        self.parked: list[int] = []
        """Numbers at which a tombstone stands."""
        self.gap: Gap | None = None
        """The first one."""
        self.highest = self._reached

    def add(self, link: Link) -> None:
        """Takes a link in. What says the same as another one is a repetition."""
        self.highest = max(self.highest, link.sequence)
        if link.sequence <= self._reached:
            self._late(link)
            return
        here = self._waiting[link.sequence]
        self.repetitions += link.hash in here
        if link.hash not in here or here[link.hash].is_tombstone:
            # The event itself, where it came through in the end, goes before its tombstone.
            here[link.hash] = link

    def _late(self, link: Link) -> None:
        """A link that was walked past: its object's name does not cover it, or it is from before the base."""
        first, kept = next((stretch for stretch in reversed(self._walked) if stretch[0] <= link.sequence), (0, bytearray()))
        start = (link.sequence - first) * KEPT
        walked = bytes(kept[start : start + KEPT])
        if walked and walked != link.hash[:KEPT] and link.hash not in self._candidates:
            self._forged(link)
        else:
            self.repetitions += 1

    def advance(self, limit: int | None) -> None:
        """Walks over the numbers below `limit`, all of whose events were added; the last of them waits, because judging a number takes the one behind
        it. None: walks to the end of what is there and of what checkpoints vouch for.
        """
        end = max(self.highest, self._newest) if limit is None else limit - 1
        while self._reached < end:
            number = self._reached + 1
            if number not in self._waiting:
                self._skip(number, end)
            elif number < end or limit is None:
                self._step(number)
            else:
                break

    def _skip(self, number: int, end: int) -> None:
        """Over a gap that begins at `number`."""
        last = min(end, min((waiting for waiting in self._waiting if waiting > number), default=end + 1) - 1)
        saw = next((self._vouched[n] for n in sorted(self._vouched) if n >= number), None)
        if saw is not None:
            text = f"{self._span(number, min(last, self._newest))} deleted: checkpoint {saw.checkpoint} vouches for what is not there"
            self._report(Finding(Kind.DELETED, text, self._source, number, saw.checkpoint))
        if last > self._newest and self.gap is None:
            self.gap = Gap(max(number, self._newest + 1), last)
        self._walked.append((last + 1, bytearray()))
        self._reached = last
        known = self._vouched.get(last)
        # Behind a gap the chain begins anew: where a checkpoint knows the hash at its end with that, else with anything.
        self._candidates = {known.head.hash: None} if known else {}

    def _step(self, number: int) -> None:
        here = self._waiting.pop(number)
        linked: dict[bytes, Link] = {
            link.hash: link for link in here.values() if not self._candidates or link.previous_hash in self._candidates
        } or self._broken(number, here)
        if self.gap and self.gap.behind is None:
            self.gap.behind = next(iter(linked.values()))
        self._settle_candidates({link.previous_hash for link in linked.values()})
        if linked.keys() <= here.keys():
            for hash_ in here.keys() - linked.keys():
                self._forged(here[hash_])
        known = self._vouched.get(number)
        if known and known.head.hash not in linked:
            self._changed(number, f"checkpoint {known.checkpoint} vouches for another one")
        elif known:
            for hash_ in linked.keys() - {known.head.hash}:
                self._forged(linked[hash_])
        self.parked += [number] * all(link.is_tombstone for link in linked.values())
        self._candidates = {known.head.hash: linked.get(known.head.hash)} if known else dict(linked)
        self._walked[-1][1].extend(next(iter(self._candidates))[:KEPT])
        self._reached = number
        self.events += 1
        self.unsigned += number > self._newest

    def _broken(self, number: int, here: dict[bytes, Link]) -> dict[bytes, Link]:
        """Nothing at `number` names the event before it. Says whose fault that is; returns what to go on with."""
        behind = list(self._waiting.get(number + 1, {}).values())
        for link in here.values():
            for next_link in behind:
                first, second = next_link.renumbered(number), link.renumbered(number + 1)
                if first.previous_hash in self._candidates and second.previous_hash == first.hash:
                    self._report(Finding(Kind.REORDERED, f"{self._span(number, number + 1)} reordered: they changed places", self._source, number))
                    self._told |= {number, number + 1}
                    self._waiting[number + 1] = {second.hash: second}
                    return {first.hash: first}
        named = {link.previous_hash for link in behind} | ({self._vouched[number].head.hash} if number in self._vouched else set())
        true = {hash_: link for hash_, link in here.items() if hash_ in named}
        if true and number > 1:
            self._changed(number - 1, f"event {number} of {self._source} holds another hash of it")
            return true
        self._changed(number, f"it does not hold the hash of event {number - 1}, and nothing names its own")
        return here

    def _settle_candidates(self, parents: set[bytes]) -> None:
        """Of several candidates those that have no child are forged."""
        true = parents & self._candidates.keys()
        if len(self._candidates) > 1 and true:
            for hash_ in self._candidates.keys() - true:
                if (link := self._candidates[hash_]) is not None:
                    self._forged(link)
            self._walked[-1][1][-KEPT:] = next(iter(true))[:KEPT]

    def finish(self) -> None:
        """Says what is left open at the end: several candidates, none of which anything names."""
        if len(self._candidates) > 1:
            text = f"event {self._reached} of {self._source} exists in {len(self._candidates)} forms, and nothing says yet which of them is true"
            self._report(Finding(Kind.FORGED, text, self._source, self._reached))

    def _forged(self, link: Link) -> None:
        text = f"event {link.sequence} of {self._source} exists in a second form that the chain does not know: {link.event.event_id or 'without id'}"
        self._report(Finding(Kind.FORGED, text, self._source, link.sequence))

    def _changed(self, number: int, how: str) -> None:
        if number not in self._told:
            self._told.add(number)
            self._report(Finding(Kind.CHANGED, f"event {number} of {self._source} was changed: {how}", self._source, number))

    def _span(self, first: int, last: int) -> str:
        return f"event {first} of {self._source} was" if first == last else f"events {first} to {last} of {self._source} were"
