"""Walking a source's chain in the order of its numbers, and saying where it breaks.

An event is vouched for by the one behind it, which holds its hash, and by checkpoints. So one number may have several
candidates for a while (a writer to the bucket can put a forged event beside the true one), and each may have
descendants of its own: a fork. Its branches are followed side by side until a checkpoint knows one of them, or all but
one end; the others are forged then, back to where they left the chain.
"""

import bisect
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from services.audit.proof.checkpoints import Head
from services.audit.proof.findings import Finding, Kind
from services.audit.proof.tombstones import Parkings
from services.audit.trail.event_codec import Link

KEPT = 16
"""Bytes of each hash that are kept to know a repetition by, however late it comes."""
NAMED = 3
"""Ids of forged events that a finding names."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """A checkpoint's word about one source."""

    head: Head
    checkpoint: int


@dataclass(slots=True, eq=False)
class Node:
    """An event that may be the one at its number."""

    sequence: int
    hash: bytes
    link: Link | None = None
    """None: only its hash is known, by the word of a checkpoint."""
    listed: datetime | None = None
    """When a checkpoint first listed the object that it was read from; None when none did yet."""
    parent: "Node | None" = None
    """The candidate before it, while the chain there is not settled."""
    children: int = 0
    start: int = 0
    """Where its branch begins without naming anything that is there before it; 0: it comes from what is settled."""


@dataclass(slots=True)
class Gap:
    """Numbers that are not there and that no checkpoint vouches for."""

    first: int
    last: int


class Walk:
    """Through the chain of one source. Links are added in about their order; `advance` walks as far as that allows."""

    def __init__(
        self,
        source: str,
        base: Head | None,
        vouched: Mapping[int, Vouched],
        report: Callable[[Finding], None],
        missing: Callable[[Gap, list[Node]], None],
    ) -> None:
        """Initializes the instance.

        Args:
            source: Whose chain it is.
            base: Where the walk begins, on the word of a checkpoint; None: before the first event.
            vouched: What checkpoints say, by the number of the event.
            report: Takes what is found.
            missing: Judges a gap, told with the candidates behind it: they show that it is one.
        """
        self._source = source
        self._vouched = vouched
        self._vouched_numbers = sorted(vouched)
        self._newest = max(vouched, default=0)
        self._report = report
        self._missing = missing
        self._waiting: defaultdict[int, dict[bytes, Node]] = defaultdict(dict)
        self._numbers: list[int] = []
        """A heap of those that wait: however many stand behind gaps, the next one is found at once."""
        root = Node(base.sequence if base else 0, base.hash if base else b"")
        self._tips: dict[bytes, Node] = {root.hash: root}
        """The candidates at the number that was reached. Empty behind a gap: then anything may come."""
        self._certain = {root.sequence} | vouched.keys()
        """Numbers whose hash is known from the key's word, not from the events."""
        self._highest = self._reached = root.sequence
        self._walked = [(root.sequence + 1, bytearray())]
        """Stretches without a gap: the first number, and the beginnings of the hashes; zeros where nothing is
        settled."""
        self._told: set[int] = set()
        self._gap: Gap | None = None
        self.parkings = Parkings()
        self.events = 0
        """How many numbers were walked whose event is there."""
        self.unsigned = 0
        """How many of them no checkpoint covers yet."""
        self.repetitions = 0

    def add(self, link: Link, listed: datetime | None = None) -> None:
        """Takes a link in. What says the same as another one is a repetition."""
        self._highest = max(self._highest, link.sequence)
        self.parkings.saw(link, listed)
        if link.sequence <= self._reached:
            self._late(link)
            return
        if link.sequence not in self._waiting:
            heapq.heappush(self._numbers, link.sequence)
        here = self._waiting[link.sequence]
        known = here.get(link.hash)
        self.repetitions += known is not None
        if known is None or (known.link and known.link.is_tombstone):
            # The event itself, where it came through in the end, goes before its tombstone.
            here[link.hash] = Node(link.sequence, link.hash, link, listed)

    def _late(self, link: Link) -> None:
        """A link that was walked past: its object's name does not cover it, or it is from before the base."""
        first, kept = next(
            (stretch for stretch in reversed(self._walked) if stretch[0] <= link.sequence), (0, bytearray())
        )
        start = (link.sequence - first) * KEPT
        walked = bytes(kept[start : start + KEPT])
        open_hashes = {
            node.hash for tip in self._tips.values() for node in _ancestors(tip) if node.sequence == link.sequence
        }
        if walked and link.hash not in open_hashes and walked != link.hash[:KEPT]:
            self._forged([Node(link.sequence, link.hash, link)])
        else:
            self.repetitions += 1

    def advance(self, limit: int | None) -> None:
        """Walks over the numbers below `limit`, all of whose events were added.

        The last of them waits, because judging a number takes the one behind it. None: walks to the end of what is
        there and of what checkpoints vouch for.
        """
        end = max(self._highest, self._newest) if limit is None else limit - 1
        while self._reached < end:
            number = self._reached + 1
            if number not in self._waiting:
                self._skip(number, end)
            elif number < end or limit is None:
                self._step(number)
            else:
                break

    def finish(self) -> None:
        """Says what is left open at the end."""
        rooted = [tip for tip in self._tips.values() if not tip.start]
        self._end([tip for tip in self._tips.values() if tip.start])
        if len(rooted) > 1:
            self._undecided(rooted)
        elif rooted:
            self._settle(rooted[0])

    def _skip(self, number: int, end: int) -> None:
        """Over a gap that begins at `number`."""
        self.finish()
        last = min(end, self._numbers[0] - 1) if self._numbers else end
        if number <= self._newest:
            saw = self._vouched[self._vouched_numbers[bisect.bisect_left(self._vouched_numbers, number)]]
            to = min(last, self._newest)
            text = f"{self._span(number, to)} deleted: checkpoint {saw.checkpoint} vouches for what is not there"
            about = f"{self._source} {number}-{to} checkpoint {saw.checkpoint}"
            self._report(Finding(Kind.DELETED, text, about, self._source, number, to, saw.checkpoint))
        if last > self._newest:
            self._gap = Gap(self._gap.first if self._gap else max(number, self._newest + 1), last)
        self._walked.append((last + 1, bytearray()))
        self._reached = last
        known = self._vouched.get(last)
        # Behind a gap the chain begins anew: where a checkpoint knows the hash at its end with that, else with
        # anything.
        self._tips = {known.head.hash: Node(last, known.head.hash)} if known else {}

    def _step(self, number: int) -> None:
        here = self._waiting.pop(number)
        self._forget(number)
        if self._gap:
            self._missing(self._gap, list(here.values()))
            self._gap = None
        for node in here.values():
            self._attach(node)
        known = self._vouched.get(number)
        true = here.get(known.head.hash) if known else None
        if known and true:
            keep = [true]
        elif known:
            # What follows the settled chain here is what was changed, or made anew from some event on; all else is
            # forged.
            self._end([node for node in here.values() if node.start])
            self._changed(
                number,
                [node for node in here.values() if not node.start],
                self._contradiction(number, known.checkpoint),
            )
            keep = [Node(number, known.head.hash)]
        elif any(node.parent and not node.start for node in here.values()) or not self._tips:
            # One that contradicts what is certain has no claim.
            keep = [node for node in here.values() if not node.start or number - 1 not in self._certain or node.parent]
        else:
            # Nothing follows the settled chain: a branch that goes on is the true one then.
            keep = [node for node in here.values() if node.parent] or self._broken(number, here)
        self._keep(number, here, keep)
        self.events += 1
        self.unsigned += number > self._newest

    def _forget(self, number: int) -> None:
        """Numbers up to this one wait no more."""
        while self._numbers and self._numbers[0] <= number:
            heapq.heappop(self._numbers)

    def _attach(self, node: Node) -> None:
        """Finds what a candidate follows."""
        assert node.link is not None
        parent = self._tips.get(node.link.previous_hash)
        if parent is not None:
            node.parent, node.start = parent, parent.start
            parent.children += 1
        elif self._tips:
            node.start = node.sequence

    def _keep(self, number: int, here: Mapping[bytes, Node], keep: list[Node]) -> None:
        """Goes on with some of the candidates.

        The others are forged, and so are the ends of branches that nothing follows.
        """
        floor = 0
        if all(node.start for node in keep):
            # A branch that does not follow the settled chain is the true one: what it names instead of the event before
            # it was changed.
            floor = min(node.start for node in keep)
            self._changed(floor - 1, self._at(floor - 1), f"event {floor} of {self._source} holds another hash of it")
        if any(tip.children for tip in self._tips.values()):
            self._end([tip for tip in self._tips.values() if not tip.children], floor)
        elif len(self._tips) > 1:
            self._undecided(list(self._tips.values()))
        if any(node.hash in here for node in keep):
            kept = set(keep)
            self._end([node for node in here.values() if node not in kept], floor)
        for node in keep:
            node.start = 0 if floor else node.start
        self._tips = {node.hash: node for node in keep}
        self._walked[-1][1].extend(bytes(KEPT))
        self._reached = number
        if len(keep) == 1:
            self._settle(keep[0])

    def _settle(self, tip: Node) -> None:
        """The chain up to here is this one."""
        first, kept = self._walked[-1]
        for node in _ancestors(tip):
            if node.sequence >= first:
                start = (node.sequence - first) * KEPT
                kept[start : start + KEPT] = node.hash[:KEPT]
            if node.link is not None:
                self.parkings.walked(node.link)
            node.link = None
        tip.parent, tip.children = None, 0

    def _end(self, tips: Iterable[Node], floor: int = 0) -> None:
        """Says that branches are forged, each back to where it left the chain, though not below `floor`."""
        for tip in tips:
            forged, node = [tip], tip
            while node.parent is not None:
                node.parent.children -= 1
                node = node.parent
                if node.children or node.link is None:
                    break
                forged.append(node)
            if forged := [node for node in reversed(forged) if node.sequence >= floor]:
                self._forged(forged)

    def _at(self, number: int) -> list[Node]:
        """The candidates of a number that is not settled."""
        return [node for tip in self._tips.values() for node in _ancestors(tip) if node.sequence == number]

    def _broken(self, number: int, here: dict[bytes, Node]) -> list[Node]:
        """Nothing at `number` names the event before it. Says whose fault that is; returns what to go on with."""
        behind = list(self._waiting.get(number + 1, {}).values())
        for node in here.values():
            for next_node in behind:
                assert node.link is not None
                assert next_node.link is not None
                first, second = next_node.link.renumbered(number), node.link.renumbered(number + 1)
                if first.previous_hash in self._tips and second.previous_hash == first.hash:
                    text = f"{self._span(number, number + 1)} reordered: they changed places"
                    about = f"{self._source} {number} {first.hash.hex()} {second.hash.hex()}"
                    self._report(Finding(Kind.REORDERED, text, about, self._source, number, number + 1))
                    self._told |= {number, number + 1}
                    self._waiting[number + 1] = {second.hash: Node(number + 1, second.hash, second)}
                    moved = Node(number, first.hash, first)
                    self._attach(moved)
                    return [moved]
        named = {next_node.link.previous_hash for next_node in behind if next_node.link}
        true = [node for node in here.values() if node.hash in named]
        if true and number - 1 not in self._certain:
            # `_keep` says that the event before it was changed.
            return true
        self._changed(
            number, list(here.values()), f"it does not hold the hash of event {number - 1}, and nothing names its own"
        )
        for node in here.values():
            node.start = 0
        return list(here.values())

    def _undecided(self, tips: list[Node]) -> None:
        """Says that nothing tells which of several branches is true."""
        forms: defaultdict[int, set[bytes]] = defaultdict(set)
        for tip in tips:
            for node in _ancestors(tip):
                forms[node.sequence].add(node.hash)
        first = min(number for number, hashes in forms.items() if len(hashes) > 1)
        text = f"{self._exist(first, self._reached)} in {len(tips)} forms, and nothing says yet which of them is true"
        about = f"{self._source} {first}-{self._reached} {_hashes(tips)}"
        self._report(Finding(Kind.FORGED, text, about, self._source, first, self._reached))

    def _forged(self, nodes: list[Node]) -> None:
        """Says that events which follow each other are not of the chain."""
        first, last = nodes[0].sequence, nodes[-1].sequence
        ids = [node.link.event.event_id or "without id" for node in nodes[:NAMED] if node.link] + ["…"] * (
            len(nodes) > NAMED
        )
        text = f"{self._exist(first, last)} in a second form that the chain does not know: {', '.join(ids)}"
        # The last one's hash stands for those before it.
        self._report(
            Finding(
                Kind.FORGED, text, f"{self._source} {first}-{last} {nodes[-1].hash.hex()}", self._source, first, last
            )
        )

    def _changed(self, number: int, nodes: list[Node], how: str) -> None:
        if number not in self._told:
            self._told.add(number)
            text = f"event {number} of {self._source} was changed: {how}"
            self._report(
                Finding(Kind.CHANGED, text, f"{self._source} {number} {_hashes(nodes)}", self._source, number, number)
            )

    def _contradiction(self, number: int, checkpoint: int) -> str:
        index = bisect.bisect_left(self._vouched_numbers, number)
        before = self._vouched_numbers[index - 1] if index else 0
        since = f", and for none of those behind event {before}" if before < number - 1 else ""
        return f"checkpoint {checkpoint} vouches for another one{since}"

    def _exist(self, first: int, last: int) -> str:
        return (
            f"event {first} of {self._source} exists"
            if first == last
            else f"events {first} to {last} of {self._source} exist"
        )

    def _span(self, first: int, last: int) -> str:
        return (
            f"event {first} of {self._source} was"
            if first == last
            else f"events {first} to {last} of {self._source} were"
        )


def _ancestors(tip: Node) -> Iterator[Node]:
    """A candidate, and those before it that are not settled, from the last to the first."""
    node: Node | None = tip
    while node is not None:
        yield node
        node = node.parent


def _hashes(nodes: Iterable[Node]) -> str:
    return " ".join(sorted(node.hash.hex() for node in nodes))
