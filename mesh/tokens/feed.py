"""The revocation feed.

How every process learns of a revocation within milliseconds, and knows how old its knowledge is.

Token writes each revocation into PostgreSQL with a contiguous sequence and then into a Redis stream whose entry ids are
those sequences. A heartbeat in a second stream carries the log's epoch and high-water mark and is written only when
everything below it is in the first. A consumer that reads both in one command therefore knows at each heartbeat whether
it has everything; at a gap, at a new epoch and at start it loads a snapshot from Token. Redis holds nothing that
PostgreSQL can't refill.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from mesh.errors import MeshError, Reason, Unavailable
from mesh.runtime.backoff import Backoff
from mesh.runtime.interruption import Interruption
from mesh.runtime.part import Part
from mesh.secrets.login import Logins
from mesh.storage.redis_address import RedisAddress
from mesh.telemetry.metrics import REVOCATION_STALENESS_SECONDS, REVOCATIONS_KNOWN
from mesh.tokens.revocations import Revocation, RevocationKind, RevocationSet, Snapshot

STREAM = "authmesh:revocations"
"""Stream of revocations. The entry with sequence 7 has the id `7-0`."""
HEARTBEAT_SECONDS = 0.5
"""How often a publisher proves that it is alive and has nothing left to publish."""

_BLOCK_SECONDS = 5.0
_ANSWER_SECONDS = 3.0
_BATCH = 1000
_BACKOFF_SECONDS = (0.05, 1.0)
_PUBLISHED_AT = "published_at"
_KEPT_DELIVERIES = 10_000
Entry = tuple[bytes, Mapping[bytes, bytes]]
_log = structlog.get_logger("authmesh.revocations")


def heartbeat_stream(stream: str) -> str:
    """The stream of heartbeats that belongs to a stream of revocations.

    The braces keep both in one slot of a Redis Cluster.
    """
    return f"{{{stream}}}:heartbeat"


def encode(revocation: Revocation, published_at: float | None = None) -> dict[str, str | int]:
    """The fields of a stream entry.

    The sequence is its id. When it was published (Unix seconds) is there to be measured by and for nothing else.
    """
    published: dict[str, str | int] = {} if published_at is None else {_PUBLISHED_AT: int(published_at * 1000)}
    return published | {
        "kind": int(revocation.kind),
        "value": revocation.value,
        "not_before": revocation.not_before,
        "expires_at": revocation.expires_at,
    }


def decode(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Revocation:
    """The revocation of a stream entry.

    Raises:
        ValueError: it is none.
        KeyError: a field is missing.
    """
    return Revocation(
        sequence=int(entry_id.partition(b"-")[0]),
        kind=RevocationKind(int(fields[b"kind"])),
        value=fields[b"value"].decode(),
        not_before=int(fields[b"not_before"]),
        expires_at=int(fields[b"expires_at"]),
    )


class GapError(Exception):
    """The stream doesn't continue where this process is: only a snapshot helps."""


class RevocationFeed(Part):
    """Keeps a `RevocationSet` fresh, and measures on its own monotonic clock how fresh it is."""

    name = "revocations"

    def __init__(
        self,
        redis_url: str,
        load_snapshot: Callable[[], AsyncGenerator[Snapshot]],
        revocations: RevocationSet,
        *,
        logins: Logins | None = None,
        stream: str = STREAM,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Initializes the instance.

        Args:
            redis_url: Where the streams are (`mesh.storage.redis_address`).
            load_snapshot: Asks Token for everything, in pieces; raises `MeshError` when it can't be had.
            revocations: The set to keep.
            logins: What takes the place of the password in it.
            stream: Name of the stream of revocations.
            clock: Monotonic seconds.
        """
        self._address = RedisAddress.parse(redis_url, logins)
        self._load_snapshot = load_snapshot
        self._revocations = revocations
        self._stream = stream
        self._heartbeats = heartbeat_stream(stream)
        self._clock = clock
        self._epoch: str | None = None
        self._sequence = 0
        self._complete_at = float("-inf")
        self._deliveries: deque[float] = deque(maxlen=_KEPT_DELIVERIES)
        self._interruption = Interruption(_log, "revocation feed interrupted", clock=clock)
        REVOCATION_STALENESS_SECONDS.set_function(self.staleness)
        for kind in revocations.sizes:
            REVOCATIONS_KNOWN.labels(kind).set_function(partial(_size, revocations, kind))

    def take_deliveries(self) -> list[float]:
        """Seconds that each revocation took from its publication to this process, since this was asked last.

        Clocks that differ show in it.
        """
        taken = list(self._deliveries)
        self._deliveries.clear()
        return taken

    @property
    def loaded(self) -> bool:
        """Whether a snapshot was ever loaded: before that nothing is known and nothing may be admitted."""
        return self._epoch is not None

    @property
    def ready(self) -> bool:
        """Whether it was loaded.

        A feed that went stale is not a reason to stop serving: methods without a token still work, and the others say
        REVOCATION_STALE.
        """
        return self.loaded

    @property
    def sequence(self) -> int:
        """The newest revocation that this process knows."""
        return self._sequence

    def staleness(self) -> float:
        """Seconds since the moment at which this process knew everything that was revoked.

        Infinite before the first snapshot.
        """
        return self._clock() - self._complete_at

    async def run(self) -> None:
        """Follows the feed, whatever happens to Redis and Token."""
        backoff = Backoff(*_BACKOFF_SECONDS)
        while True:
            started = self._clock()
            try:
                if not self.loaded:
                    await self._load()
                async with self._address.connect(self._stream, name="revocations") as redis:
                    await self._follow(redis)
            except (RedisError, OSError, MeshError, TimeoutError, ValueError, KeyError) as error:
                self._interruption.failed(error=type(error).__name__, staleness=round(self.staleness(), 1))
            if self._clock() - started > _BACKOFF_SECONDS[1]:
                backoff.succeeded()
            await asyncio.sleep(backoff.failed())

    async def _load(self) -> None:
        started = self._clock()
        whole: Snapshot | None = None
        # Pieces are added as they come, and the loop goes on between them. To refuse early is not harm; that this
        # process knows everything is said after the last one.
        async with aclosing(self._load_snapshot()) as pieces:
            async for piece in pieces:
                whole = piece
                self._revocations.add(piece.revocations)
                await asyncio.sleep(0)
        if whole is None:
            raise Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "the snapshot was empty: try again")
        self._epoch, self._sequence = whole.epoch, whole.sequence
        self._complete_at = max(self._complete_at, started)

    async def _follow(self, redis: Redis) -> None:
        # A heartbeat proves something about the time since we last saw that it was not there yet, and nothing about the
        # time before: the one that we find on connecting may be old, and this process may have been asleep.
        absent_at = self._clock()
        async with asyncio.timeout(_ANSWER_SECONDS):
            newest: Any = await redis.xrevrange(self._heartbeats, count=1)
        heartbeat_id: bytes = newest[0][0] if newest else b"0-0"
        while True:
            asked_at = self._clock()
            # An unblocked read of two streams is of one moment. A blocked one is woken by whichever comes first, so
            # `_drain` looks again.
            found = await _read(
                redis, {self._stream: f"{self._sequence}-0", self._heartbeats: heartbeat_id}, block=_BLOCK_SECONDS
            )
            if not found:
                # No one publishes, or this server is no longer the one that they publish to: it may be cut off from
                # those that chose another.
                raise TimeoutError("no heartbeat")
            self._interruption.ended()
            try:
                self._apply(found.get(self._stream, ()))
                for entry_id, fields in found.get(self._heartbeats, ()):
                    heartbeat_id = entry_id
                    await self._drain(redis, fields[b"epoch"].decode(), int(fields[b"sequence"]))
                    self._complete_at = max(self._complete_at, absent_at)
                    self._revocations.forget()
            except GapError as gap:
                _log.info("loading a snapshot", cause=str(gap))
                await self._load()
            absent_at = asked_at

    async def _drain(self, redis: Redis, epoch: str, sequence: int) -> None:
        """Reads on until this process has everything that a heartbeat covers."""
        if epoch != self._epoch:
            raise GapError("the log has a new epoch")
        while self._sequence < sequence:
            found = await _read(redis, {self._stream: f"{self._sequence}-0"})
            if not found:
                raise GapError(f"nothing behind {self._sequence}, the heartbeat covers {sequence}")
            self._apply(found[self._stream])

    def _apply(self, entries: Sequence[Entry]) -> None:
        for entry_id, fields in entries:
            try:
                revocation = decode(entry_id, fields)
            except (ValueError, KeyError) as error:
                raise GapError(f"entry {entry_id!r} is not a revocation") from error
            # Applied in any case: to refuse early is not harm. But what lies between must be had, too.
            self._revocations.add((revocation,))
            self._note_delivery(fields)
            if revocation.sequence > self._sequence + 1:
                raise GapError(f"{revocation.sequence} came behind {self._sequence}")
            self._sequence = max(self._sequence, revocation.sequence)

    def _note_delivery(self, fields: Mapping[bytes, bytes]) -> None:
        published_at = fields.get(_PUBLISHED_AT.encode(), b"")
        if published_at.isdigit():
            self._deliveries.append(time.time() - int(published_at) / 1000)


async def _read(redis: Redis, streams: Mapping[str, str | bytes], block: float = 0) -> dict[str, Sequence[Entry]]:
    positions: dict[Any, Any] = dict(streams)
    async with asyncio.timeout(block + _ANSWER_SECONDS):
        found: Any = await redis.xread(positions, count=_BATCH, block=int(block * 1000) or None)
    return {name.decode(): entries for name, entries in found}


def _size(revocations: RevocationSet, kind: str) -> float:
    return revocations.sizes[kind]
