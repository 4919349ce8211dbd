"""The proof: whether the trail is as it was written, from its objects and one pinned public key alone.

What operators acknowledged comes first, then checkpoints: each signed, numbered and chained, the newest not overdue.
Then each source's chain is walked from its first event to its last, past what the checkpoints vouch for, and every
object is held against its Merkle root. It streams: memory holds the events of a few objects.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from services.audit.proof import acknowledgements, checkpoints
from services.audit.proof.chain_verifier import Gap, Node, Vouched, Walk
from services.audit.proof.checkpoints import Anchor, Head, Statement
from services.audit.proof.findings import Finding, Kind, Report
from services.audit.proof.statement import PinnedKey, StatementError, digest, signed_part
from services.audit.trail import merkle
from services.audit.trail.archive import Archive, read_all
from services.audit.trail.event_codec import LineError, read_line, unpack
from services.audit.trail.objects import PREFIX

OVERDUE_INTERVALS = 2
"""A checkpoint may be late by one interval: a pass may fail once."""
EVENTS_OF_AN_OBJECT = 1_000
"""What progress takes an object for at most, whatever its name says."""

_OBJECT = re.compile(r"audit/source=([a-z][a-z0-9-]*)/dt=\d{4}-\d\d-\d\d/(\d{16})-(\d{16})-([0-9a-f]{32})\.jsonl\.gz")

Progress = Callable[[int, int], None]
"""Called with the events that were checked since the last call, and with how many there are in all, as far as is
known."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """What a checkpoint says of an object."""

    root: bytes
    checkpoint: int
    time: datetime
    """Of that checkpoint: the object is at least that old."""


@dataclass
class _Word:
    """What the checkpoints say."""

    base: Statement | None = None
    """Of an earlier time, where a verification does not begin with the first one."""
    vouched: defaultdict[str, dict[int, Vouched]] = field(default_factory=lambda: defaultdict(dict))
    objects: dict[str, _Listed] = field(default_factory=dict)
    acknowledgements: dict[int, tuple[Anchor, int]] = field(default_factory=dict)
    """What is anchored, and the checkpoint that does it, by number."""
    newest: Statement | None = None

    @property
    def grace(self) -> timedelta:
        """How old something may be that no checkpoint covers."""
        return OVERDUE_INTERVALS * self.newest.interval if self.newest else timedelta()


@dataclass(frozen=True, slots=True)
class _Named:
    """An object by its name, which is a hint and no more."""

    first: int
    last: int
    key: str


@dataclass
class _Objects:
    """The objects of one source."""

    wanted: list[_Named] = field(default_factory=list)
    """Those that are to be read, in the order of their events."""
    there: set[str] = field(default_factory=set)
    """The keys of all."""


async def verify(
    archive: Archive,
    key: PinnedKey,
    *,
    acknowledgement_key: PinnedKey | None = None,
    since: datetime | None = None,
    source: str | None = None,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> Report:
    """Verifies the trail.

    Args:
        archive: The bucket, or a copy of it.
        key: The public key that checkpoints are believed from.
        acknowledgement_key: The one that acknowledgements are believed from; None: none is believed.
        since: Begin with the last checkpoint before this time, on its word; None: with the first event.
        source: Only the chain of this source; None: all.
        now: The time by which the newest checkpoint may be overdue: that of the copy, for a copy.
        progress: Told how far it is.

    Raises:
        ClientError, BotoCoreError, OSError: the archive can't be read.
    """
    report = Report()
    now = now or datetime.now(UTC)
    acknowledged = await _Acknowledgements(archive, report).read(acknowledgement_key, key.fingerprint)
    word = await _Checkpoints(archive, key, report).read(since, now)
    acknowledged.judge(word)
    listed = await _list(archive, source, word, report)
    total = sum(_span(item) for objects in listed.values() for item in objects.wanted)
    for name in sorted(listed.keys() | word.vouched.keys()) if source is None else [source]:
        objects = listed.get(name, _Objects())
        await _Source(archive, name, word, report, now).check(
            objects, lambda events: progress(events, total) if progress else None
        )
    return report


def _span(item: _Named) -> int:
    return min(item.last - item.first + 1, EVENTS_OF_AN_OBJECT)


def _base(word: _Word, source: str) -> Head | None:
    return word.base.heads.get(source) if word.base else None


async def _list(archive: Archive, source: str | None, word: _Word, report: Report) -> dict[str, _Objects]:
    """The objects of each source.

    What else lies among them is not the consumer's: readers that go by the folder would take it for events.
    """
    found: defaultdict[str, _Objects] = defaultdict(_Objects)
    foreign: list[str] = []
    async for key in archive.keys(PREFIX if source is None else f"{PREFIX}source={source}/"):
        matched = _OBJECT.fullmatch(key)
        if matched is None or int(matched[2]) > int(matched[3]):
            foreign.append(key)
            continue
        objects, base = found[matched[1]], _base(word, matched[1])
        objects.there.add(key)
        if base is None or int(matched[3]) > base.sequence:
            objects.wanted.append(_Named(int(matched[2]), int(matched[3]), key))
    await _report_foreign(archive, foreign, "the consumer", report)
    for objects in found.values():
        objects.wanted.sort(key=lambda item: (item.first, item.last, item.key))
    return found


async def _report_foreign(archive: Archive, keys: Iterable[str], who: str, report: Report) -> None:
    async for key, body in read_all(archive, keys):
        report.add(
            Finding(
                Kind.FORGED, f"{key} has a name that {who} does not give", f"{key} {_hash(body or b'')}", object=key
            )
        )


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Acknowledgements:
    """Reads what operators acknowledged."""

    def __init__(self, archive: Archive, report: Report) -> None:
        self._archive = archive
        self._report = report
        self._found: list[Finding] = []
        self._hashes: dict[int, bytes] = {}

    async def read(self, key: PinnedKey | None, trail: str) -> "_Acknowledgements":
        """Makes known what is acknowledged.

        What is wrong with the statements is reported then: it may be acknowledged, too.
        """
        series, expected, previous, foreign = acknowledgements.SERIES, 1, b"", list[str]()
        async for name, body in read_all(self._archive, [found async for found in self._archive.keys(series.prefix)]):
            number = series.number_of(name)
            if number is None:
                foreign.append(name)
                continue
            if number > expected:
                self._find(
                    Kind.DELETED,
                    f"acknowledgements {expected} to {number - 1} were deleted",
                    f"{expected}-{number - 1}",
                    number,
                )
            self._hashes[number] = digest(signed_part(body or b""))
            if key is None:
                self._report.unjudged += 1
            else:
                self._take(key, trail, number, body or b"", previous if number == expected else None)
            expected, previous = number + 1, self._hashes[number]
        for finding in self._found:
            self._report.add(finding)
        await _report_foreign(self._archive, foreign, "`authmesh audit acknowledge`", self._report)
        return self

    def judge(self, word: _Word) -> None:
        """Holds them against what the checkpoints say."""
        for number, (anchor, checkpoint) in sorted(word.acknowledgements.items()):
            if (there := self._hashes.get(number)) is None:
                text = f"acknowledgement {number} was deleted: checkpoint {checkpoint} names it"
                self._report.add(
                    Finding(Kind.DELETED, text, f"acknowledgement {number} {anchor.hash.hex()}", checkpoint=checkpoint)
                )
            elif there != anchor.hash:
                text = f"acknowledgement {number} was replaced: checkpoint {checkpoint} names another one"
                self._report.add(
                    Finding(Kind.CHANGED, text, f"acknowledgement {number} {there.hex()}", checkpoint=checkpoint)
                )

    def _take(self, key: PinnedKey, trail: str, number: int, body: bytes, previous: bytes | None) -> None:
        try:
            statement = acknowledgements.read(key, body)
        except StatementError as error:
            self._find(Kind.FORGED, f"acknowledgement {number} is not to be believed: {error}", _hash(body), number)
            return
        if (
            statement.acknowledgement.number != number
            or statement.trail != trail
            or previous not in (None, statement.previous)
        ):
            text = (
                f"in the place of acknowledgement {number} is one that does not belong there: "
                f"its number, its trail or the one before it differ"
            )
            self._find(Kind.REPLAYED, text, _hash(body), number)
            return
        self._report.acknowledgements += 1
        for item in statement.findings:
            # The first word stands.
            self._report.known.setdefault(item.id, statement.acknowledgement)

    def _find(self, kind: Kind, text: str, about: str, number: int) -> None:
        self._found.append(
            Finding(kind, text, f"acknowledgement {about}", object=acknowledgements.SERIES.key_of(number))
        )


class _Checkpoints:
    """Reads the checkpoints and what they vouch for."""

    def __init__(self, archive: Archive, key: PinnedKey, report: Report) -> None:
        self._archive = archive
        self._key = key
        self._report = report

    async def read(self, since: datetime | None, now: datetime) -> _Word:
        word = _Word()
        keys = [key async for key in self._archive.keys(checkpoints.SERIES.prefix)]
        there = sorted(number for key in keys if (number := checkpoints.SERIES.number_of(key)))
        await _report_foreign(
            self._archive,
            [key for key in keys if checkpoints.SERIES.number_of(key) is None],
            "the checkpointer",
            self._report,
        )
        before = await self._before(there, since) if since else 0
        wanted = [number for number in there if number >= before]
        expected, previous = before or 1, None
        async for key, body in read_all(self._archive, map(checkpoints.SERIES.key_of, wanted)):
            number = checkpoints.SERIES.number_of(key) or 0
            if number > expected:
                self._gone(expected, number - 1)
                previous = None
            expected = number + 1
            opened = self._open(number, body)
            if opened is None:
                previous = None
                continue
            statement, signed = opened
            if previous is not None and statement.previous != digest(previous):
                text = f"checkpoint {number} is signed, but does not follow the checkpoint {number - 1} that is there"
                self._find(Kind.REPLAYED, number, text, f"{digest(previous).hex()} {digest(signed).hex()}")
            elif number == 1 and statement.previous:
                self._find(Kind.REPLAYED, number, "checkpoint 1 follows another one", digest(signed).hex())
            previous = signed
            self._report.checkpoints += 1
            self._take(word, statement, is_base=number == before)
        self._judge_age(word, now)
        return word

    def _open(self, number: int, body: bytes | None) -> tuple[Statement, bytes] | None:
        if body is None:
            self._gone(number, number)
            return None
        try:
            statement, signed = checkpoints.read(self._key, body)
        except StatementError as error:
            self._find(Kind.FORGED, number, f"checkpoint {number} is not to be believed: {error}", _hash(body))
            return None
        if statement.number != number:
            text = (
                f"in the place of checkpoint {number} is the checkpoint {statement.number} of "
                f"{statement.time:%Y-%m-%dT%H:%M:%SZ}"
            )
            self._find(Kind.REPLAYED, number, text, _hash(body))
            return None
        return statement, signed

    def _take(self, word: _Word, statement: Statement, *, is_base: bool) -> None:
        word.newest = statement
        if is_base:
            word.base = statement
        for source, head in statement.heads.items():
            word.vouched[source].setdefault(head.sequence, Vouched(head, statement.number))
        if not is_base:
            for item in statement.objects:
                # The first word stands: an object that was changed later may have been listed once more.
                word.objects.setdefault(item.key, _Listed(item.root, statement.number, statement.time))
        if (anchor := statement.acknowledgements) is not None:
            word.acknowledgements.setdefault(anchor.number, (anchor, statement.number))

    def _judge_age(self, word: _Word, now: datetime) -> None:
        if word.newest is None:
            self._report.add(
                Finding(Kind.OVERDUE, "no checkpoint vouches for anything: there is none that can be believed", "none")
            )
            return
        self._report.newest = word.newest.time
        age = now - word.newest.time
        if age > OVERDUE_INTERVALS * word.newest.interval:
            minutes = age.total_seconds() / 60
            text = (
                f"the newest checkpoint, {word.newest.number}, is overdue: it is {minutes:.0f} "
                f"min old, and one is due every {word.newest.interval}"
            )
            self._find(Kind.OVERDUE, word.newest.number, text, "overdue")

    async def _before(self, there: list[int], since: datetime) -> int:
        """The last readable checkpoint before `since`, by bisection; 0: none."""
        low, high, found = 0, len(there), 0
        while low < high:
            middle = (low + high) // 2
            body = await self._archive.read(checkpoints.SERIES.key_of(there[middle]))
            try:
                statement, _ = checkpoints.read(self._key, body or b"")
            except StatementError:
                # Whatever cannot be believed is read, and reported, in its turn.
                high = middle
                continue
            if statement.time <= since:
                found, low = there[middle], middle + 1
            else:
                high = middle
        return found

    def _gone(self, first: int, last: int) -> None:
        text = f"checkpoint {first} was deleted" if first == last else f"checkpoints {first} to {last} were deleted"
        self._find(Kind.DELETED, first, text, f"to {last}")

    def _find(self, kind: Kind, number: int, text: str, about: str) -> None:
        self._report.add(Finding(kind, text, f"checkpoint {number} {about}", checkpoint=number))


class _Source:
    """Checks one source's objects and chain."""

    def __init__(self, archive: Archive, source: str, word: _Word, report: Report, now: datetime) -> None:
        self._archive = archive
        self._source = source
        self._word = word
        self._report = report
        self._now = now
        base = _base(word, source)
        vouched = {n: vouched for n, vouched in word.vouched[source].items() if not base or n > base.sequence}
        self._walk = Walk(source, base, vouched, report.add, self._judge_gap)
        self._objects: list[Finding] = []

    async def check(self, objects: _Objects, progress: Callable[[int], None]) -> None:
        self._deleted_objects(objects.there)
        items = objects.wanted
        following = iter([item.first for item in items[1:]] + [None])
        spans = {item.key: _span(item) for item in items}
        async for key, body in read_all(self._archive, (item.key for item in items)):
            self._read(key, body or b"")
            limit = next(following)
            if limit is not None:
                self._walk.advance(limit)
            progress(spans[key])
        self._walk.advance(None)
        self._walk.finish()
        self._judge_tombstones()
        for finding in self._objects:
            self._report.add(finding)
        self._report.events[self._source] = self._walk.events
        self._report.unsigned[self._source] = self._walk.unsigned
        self._report.repetitions += self._walk.repetitions
        self._report.objects += len(items)

    def _deleted_objects(self, there: set[str]) -> None:
        mine = f"{PREFIX}source={self._source}/"
        for key, listed in self._word.objects.items():
            if key.startswith(mine) and key not in there:
                self._find(
                    Kind.DELETED,
                    key,
                    f"{key} was deleted: checkpoint {listed.checkpoint} lists it",
                    listed.root.hex(),
                    listed.checkpoint,
                )

    def _read(self, key: str, body: bytes) -> None:
        try:
            lines = unpack(body)
        except LineError as error:
            self._find(Kind.UNREADABLE, key, f"{key} cannot be read: {error}", _hash(body))
            return
        listed = self._word.objects.get(key)
        sequences = []
        for number, line in enumerate(lines, 1):
            try:
                link = read_line(line)
            except LineError as error:
                self._find(
                    Kind.UNREADABLE, key, f"line {number} of {key} cannot be read: {error}", f"{number} {_hash(line)}"
                )
                continue
            if link.source != self._source:
                self._find(
                    Kind.FORGED,
                    key,
                    f"line {number} of {key} is of the source {link.source}",
                    f"{number} {_hash(line)}",
                )
                continue
            sequences.append(link.sequence)
            self._walk.add(link, listed.time if listed else None)
        self._hold_against_word(key, lines, sequences)

    def _hold_against_word(self, key: str, lines: list[bytes], sequences: list[int]) -> None:
        content, listed = _hash(b"".join(line + b"\n" for line in lines)), self._word.objects.get(key)
        checkpoint = listed.checkpoint if listed else 0
        if listed is not None and merkle.root([merkle.leaf(line) for line in lines]) != listed.root:
            how = f"checkpoint {listed.checkpoint} holds another Merkle root of it"
        elif not _is_named_for(key, content, sequences if len(sequences) == len(lines) else []):
            how = "its name is made of other content"
        else:
            return
        behind = next((index for index in range(1, len(sequences)) if sequences[index] < sequences[index - 1]), 0)
        if behind:
            text = f"{key} was reordered: event {sequences[behind]} stands behind event {sequences[behind - 1]}"
            self._find(Kind.REORDERED, key, text, content, checkpoint, sequences[behind])
        else:
            self._find(Kind.CHANGED, key, f"{key} was changed: {how}", content, checkpoint)

    def _judge_gap(self, gap: Gap, behind: list[Node]) -> None:
        what = f"event {gap.first}" if gap.first == gap.last else f"events {gap.first} to {gap.last}"
        links = [node.link for node in behind if node.link]
        # What an event says of its own time may only make the gap older: the time of a checkpoint that listed it can't
        # be put off.
        times = [link.event.event_time.ToDatetime(UTC) for link in links] + [
            node.listed for node in behind if node.listed
        ]
        late = [time for time in times if self._is_late(time)]
        if late:
            verb = "is" if gap.first == gap.last else "are"
            text = (
                f"{what} of {self._source} {verb} missing: event {gap.last + 1} is there since "
                f"{min(late):%Y-%m-%dT%H:%M:%SZ}"
            )
            about = f"{self._source} before {gap.last + 1} {' '.join(sorted(link.hash.hex() for link in links))}"
            self._report.add(Finding(Kind.MISSING, text, about, self._source, gap.first, gap.last))
        else:
            self._report.pending.append(f"{what} of {self._source}")

    def _judge_tombstones(self) -> None:
        for stone in self._walk.parkings.unstated():
            what = f"the tombstone at event {stone.sequence} of {self._source}"
            if stone.listed is None or not self._is_late(stone.listed):
                self._report.pending.append(f"what {self._source} states of {what}")
                continue
            text = f"{what} is not one of {self._source}: nothing in its chain states that the event was put aside"
            about = f"{self._source} {stone.sequence} tombstone {stone.digest.hex()}"
            self._report.add(Finding(Kind.FORGED, text, about, self._source, stone.sequence, stone.sequence))
        self._report.parked += [f"event {number} of {self._source}" for number in self._walk.parkings.parked()]

    def _is_late(self, time: datetime) -> bool:
        """Whether what follows from something of that time ought to be there by now."""
        return self._now - time > self._word.grace

    def _find(self, kind: Kind, key: str, text: str, about: str, checkpoint: int = 0, sequence: int = 0) -> None:
        self._objects.append(Finding(kind, text, f"{key} {about}", self._source, sequence, sequence, checkpoint, key))


def _is_named_for(key: str, content: str, sequences: list[int]) -> bool:
    """Whether an object has the name that the consumer gives to this content. Without numbers they are not compared."""
    matched = _OBJECT.fullmatch(key)
    if matched is None or not content.startswith(matched[4]):
        return False
    return not sequences or (int(matched[2]), int(matched[3])) == (sequences[0], sequences[-1])
