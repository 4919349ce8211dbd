"""The proof: whether the trail is as it was written, from its objects and one pinned public key alone.

Checkpoints come first: each signed, numbered and chained, the newest not overdue. Then each source's chain is walked from its first event to its
last, past what the checkpoints vouch for, and every object is held against its Merkle root. It streams: memory holds the events of a few objects.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from services.audit import checkpoints, merkle
from services.audit.archive import Archive, read_all
from services.audit.checkpoints import CheckpointError, Head, PinnedKey, Statement
from services.audit.findings import Finding, Kind, Report
from services.audit.lines import LineError, read_line, unpack
from services.audit.objects import PREFIX, SUFFIX
from services.audit.walk import Vouched, Walk

OVERDUE_INTERVALS = 2
"""A checkpoint may be late by one interval: a pass may fail once."""

_OBJECT = re.compile(r"audit/source=([a-z][a-z0-9-]*)/dt=\d{4}-\d\d-\d\d/(\d{16})-(\d{16})-([0-9a-f]{32})\.jsonl\.gz")

Progress = Callable[[int, int], None]
"""Called with the events that were checked since the last call, and with how many there are in all, as far as is known."""


@dataclass
class _Word:
    """What the checkpoints say."""

    base: Statement | None = None
    """Of an earlier time, where a verification does not begin with the first one."""
    vouched: defaultdict[str, dict[int, Vouched]] = field(default_factory=lambda: defaultdict(dict))
    objects: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    """Merkle root and checkpoint, by key."""
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


async def verify(
    archive: Archive,
    key: PinnedKey,
    *,
    since: datetime | None = None,
    source: str | None = None,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> Report:
    """Verifies the trail.

    Args:
        archive: The bucket, or a copy of it.
        key: The public key that is trusted.
        since: Begin with the last checkpoint before this time, on its word; None: with the first event.
        source: Only the chain of this source; None: all.
        now: The time by which the newest checkpoint may be overdue: that of the copy, for a copy.
        progress: Told how far it is.

    Raises:
        ClientError, BotoCoreError, OSError: the archive can't be read.
    """
    report = Report()
    now = now or datetime.now(UTC)
    word = await _Checkpoints(archive, key, report).read(since, now)
    found = {folder.removeprefix("source=").rstrip("/") for folder in await archive.folders(PREFIX) if folder.startswith("source=")}
    sources = sorted(found | word.vouched.keys()) if source is None else [source]
    named = {name: await _list(archive, name, _base(word, name), report) for name in sources}
    total = sum(item.last - item.first + 1 for items, _ in named.values() for item in items)
    for name in sources:
        await _Source(archive, name, word, report, now).check(*named[name], lambda events: progress(events, total) if progress else None)
    return report


def _base(word: _Word, source: str) -> Head | None:
    return word.base.heads.get(source) if word.base else None


async def _list(archive: Archive, source: str, base: Head | None, report: Report) -> tuple[list[_Named], set[str]]:
    """The objects of a source that are to be read, in the order of their events; and the keys of all."""
    items, there = [], set()
    async for key in archive.keys(f"{PREFIX}source={source}/"):
        if not key.endswith(SUFFIX):
            # Nothing that anybody reads as events.
            continue
        there.add(key)
        matched = _OBJECT.fullmatch(key)
        if matched is None or int(matched[2]) > int(matched[3]):
            report.add(Finding(Kind.FORGED, f"{key} has no name that the consumer gives", source, object=key))
        elif base is None or int(matched[3]) > base.sequence:
            items.append(_Named(int(matched[2]), int(matched[3]), key))
    return sorted(items, key=lambda item: (item.first, item.last, item.key)), there


class _Checkpoints:
    """Reads the checkpoints and what they vouch for."""

    def __init__(self, archive: Archive, key: PinnedKey, report: Report) -> None:
        self._archive = archive
        self._key = key
        self._report = report

    async def read(self, since: datetime | None, now: datetime) -> _Word:
        word = _Word()
        there = sorted(number for number in [checkpoints.number_of(key) async for key in self._archive.keys(checkpoints.PREFIX)] if number)
        before = await self._before(there, since) if since else 0
        wanted = [number for number in there if number >= before]
        expected, previous = before or 1, None
        async for key, body in read_all(self._archive, map(checkpoints.key_of, wanted)):
            number = checkpoints.number_of(key) or 0
            if number > expected:
                self._gone(expected, number - 1)
                previous = None
            expected = number + 1
            opened = self._open(number, body)
            if opened is None:
                previous = None
                continue
            statement, signed = opened
            if previous is not None and statement.previous != checkpoints.digest(previous):
                self._find(Kind.REPLAYED, number, f"checkpoint {number} is signed, but does not follow the checkpoint {number - 1} that is there")
            elif number == 1 and statement.previous:
                self._find(Kind.REPLAYED, number, "checkpoint 1 follows another one")
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
            statement, signed = self._key.open(body)
        except CheckpointError as error:
            self._find(Kind.FORGED, number, f"checkpoint {number} is not to be believed: {error}")
            return None
        if statement.number != number:
            self._find(
                Kind.REPLAYED,
                number,
                f"in the place of checkpoint {number} is the checkpoint {statement.number} of {statement.time:%Y-%m-%dT%H:%M:%SZ}",
            )
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
                word.objects.setdefault(item.key, (item.root, statement.number))

    def _judge_age(self, word: _Word, now: datetime) -> None:
        if word.newest is None:
            self._report.add(Finding(Kind.OVERDUE, "no checkpoint vouches for anything: there is none that can be believed"))
            return
        self._report.newest = word.newest.time
        age = now - word.newest.time
        if age > OVERDUE_INTERVALS * word.newest.interval:
            minutes = age.total_seconds() / 60
            text = (
                f"the newest checkpoint, {word.newest.number}, is overdue: it is {minutes:.0f} min old, and one is due every {word.newest.interval}"
            )
            self._find(Kind.OVERDUE, word.newest.number, text)

    async def _before(self, there: list[int], since: datetime) -> int:
        """The last readable checkpoint before `since`, by bisection; 0: none."""
        low, high, found = 0, len(there), 0
        while low < high:
            middle = (low + high) // 2
            body = await self._archive.read(checkpoints.key_of(there[middle]))
            try:
                statement, _ = self._key.open(body or b"")
            except CheckpointError:
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
        self._find(Kind.DELETED, first, text)

    def _find(self, kind: Kind, number: int, text: str) -> None:
        self._report.add(Finding(kind, text, checkpoint=number))


class _Source:
    """Checks one source's objects and chain."""

    def __init__(self, archive: Archive, source: str, word: _Word, report: Report, now: datetime) -> None:
        self._archive = archive
        self._source = source
        self._word = word
        self._report = report
        self._now = now
        base = _base(word, source)
        self._walk = Walk(source, base, {n: vouched for n, vouched in word.vouched[source].items() if not base or n > base.sequence}, report.add)
        self._objects: list[Finding] = []

    async def check(self, items: list[_Named], there: set[str], progress: Callable[[int], None]) -> None:
        self._deleted_objects(there)
        limits = [item.first for item in items[1:]] + [None]
        following = iter(limits)
        spans = {item.key: item.last - item.first + 1 for item in items}
        async for key, body in read_all(self._archive, (item.key for item in items)):
            self._read(key, body)
            limit = next(following)
            if limit is not None:
                self._walk.advance(limit)
            progress(spans[key])
        self._walk.advance(None)
        self._walk.finish()
        self._judge_gap()
        for finding in self._objects:
            self._report.add(finding)
        self._report.events[self._source] = self._walk.events
        self._report.unsigned[self._source] = self._walk.unsigned
        self._report.parked += [f"event {number} of {self._source}" for number in self._walk.parked]
        self._report.repetitions += self._walk.repetitions
        self._report.objects += len(items)

    def _deleted_objects(self, there: set[str]) -> None:
        mine = f"{PREFIX}source={self._source}/"
        for key, (_, number) in self._word.objects.items():
            if key.startswith(mine) and key not in there:
                self._objects.append(
                    Finding(Kind.DELETED, f"{key} was deleted: checkpoint {number} lists it", self._source, checkpoint=number, object=key)
                )

    def _read(self, key: str, body: bytes | None) -> None:
        try:
            lines = unpack(body or b"")
        except LineError as error:
            self._find(Kind.UNREADABLE, key, f"{key} cannot be read: {error}")
            return
        sequences = []
        for number, line in enumerate(lines, 1):
            try:
                link = read_line(line)
            except LineError as error:
                self._find(Kind.UNREADABLE, key, f"line {number} of {key} cannot be read: {error}")
                continue
            if link.source != self._source:
                self._find(Kind.FORGED, key, f"line {number} of {key} is of the source {link.source}")
                continue
            sequences.append(link.sequence)
            self._walk.add(link)
        self._hold_against_word(key, lines, sequences)

    def _hold_against_word(self, key: str, lines: list[bytes], sequences: list[int]) -> None:
        root, number = self._word.objects.get(key, (None, 0))
        if root is None:
            matched = _OBJECT.fullmatch(key)
            as_named = matched is not None and hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest().startswith(matched[4])
            how = "its name is made of other content"
        else:
            as_named = merkle.root([merkle.leaf(line) for line in lines]) == root
            how = f"checkpoint {number} holds another Merkle root of it"
        if as_named:
            return
        behind = next((index for index in range(1, len(sequences)) if sequences[index] < sequences[index - 1]), 0)
        if behind:
            text = f"{key} was reordered: event {sequences[behind]} stands behind event {sequences[behind - 1]}"
            self._objects.append(Finding(Kind.REORDERED, text, self._source, sequences[behind], number, key))
        else:
            self._find(Kind.CHANGED, key, f"{key} was changed: {how}", number)

    def _judge_gap(self) -> None:
        gap = self._walk.gap
        if gap is None:
            return
        what = f"event {gap.first}" if gap.first == gap.last else f"events {gap.first} to {gap.last}"
        shown_at = gap.behind.event.event_time.ToDatetime(UTC) if gap.behind else self._now
        if self._now - shown_at > self._word.grace:
            text = f"{what} of {self._source} missing: event {gap.last + 1} is there since {shown_at:%Y-%m-%dT%H:%M:%SZ}"
            self._report.add(Finding(Kind.MISSING, text, self._source, gap.first))
        else:
            self._report.pending.append(f"{what} of {self._source}")

    def _find(self, kind: Kind, key: str, text: str, checkpoint: int = 0) -> None:
        self._objects.append(Finding(kind, text, self._source, checkpoint=checkpoint, object=key))
