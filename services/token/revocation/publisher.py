"""Sends the revocation log to every process.

Each Token process publishes whatever Redis lacks, in order, and then proves that nothing is left.

Publishing is idempotent, because the sequence is the id of the stream's entry and Redis refuses ids that it has passed.
So any number of processes may do it at once, none is a leader, and a Redis that lost entries or everything is refilled
from PostgreSQL. See `mesh.tokens.feed` for the reading side.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from mesh.errors import MeshError
from mesh.runtime.backoff import Backoff
from mesh.runtime.interruption import Interruption
from mesh.runtime.part import Part
from mesh.secrets.login import Logins
from mesh.storage.redis_address import RedisAddress
from mesh.tokens.feed import HEARTBEAT_SECONDS, STREAM, decode, encode, heartbeat_stream
from services.token.revocation.log import RevocationLog, Tail

KEPT_ENTRIES = 100_000
"""How many entries the stream keeps, about. A consumer further behind loads a snapshot."""
BATCH = 1000
LATE_SECONDS = 1.0
"""A heartbeat that takes longer from the database to Redis proves too little, and is not sent."""
ANSWER_SECONDS = 3.0
"""How long Redis may take for anything, before another connection is tried."""

_BACKOFF_SECONDS = (0.05, 1.0)
_PASSED = "equal or smaller"
_log = structlog.get_logger("authmesh.publisher")


class Publisher(Part):
    """Publishes what the log got.

    At once what this process appended, at the next heartbeat what another one did and died.
    """

    name = "publisher"

    def __init__(
        self,
        redis_url: str,
        log: RevocationLog,
        *,
        logins: Logins | None = None,
        stream: str = STREAM,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Initializes the instance.

        Args:
            redis_url: Where the streams are (`mesh.storage.redis_address`).
            log: What is to be published.
            logins: What takes the place of the password in it.
            stream: Name of the stream of revocations.
            clock: Monotonic seconds.
        """
        self._address = RedisAddress.parse(redis_url, logins)
        self._log = log
        self._log.published(0)
        self._stream = stream
        self._clock = clock
        self._interruption = Interruption(_log, "publishing interrupted", clock=clock)

    async def run(self) -> None:
        """Publishes, whatever happens to Redis and PostgreSQL."""
        backoff = Backoff(*_BACKOFF_SECONDS)
        while True:
            started = self._clock()
            try:
                async with self._address.connect(self._stream, name="publisher") as redis:
                    await self._publish(redis)
            except (RedisError, OSError, MeshError, TimeoutError) as error:
                self._interruption.failed(error=type(error).__name__)
            if self._clock() - started > _BACKOFF_SECONDS[1]:
                backoff.succeeded()
            await asyncio.sleep(backoff.failed())

    async def _publish(self, redis: Redis) -> None:
        while True:
            self._log.appended.clear()
            while not await self.publish_once(redis):
                pass
            self._interruption.ended()
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._log.appended.wait()

    async def publish_once(self, redis: Redis) -> bool:
        """Publishes a batch. True when nothing was left and a heartbeat says so.

        Raises:
            RedisError, TimeoutError, Unavailable: one of the two stores is out of reach.
        """
        # Redis first: whatever it has was committed before, so it is never ahead of the log read after it, unless the
        # log was restored.
        async with asyncio.timeout(ANSWER_SECONDS):
            newest: Any = await redis.xrevrange(self._stream, count=1)
        published = int(newest[0][0].partition(b"-")[0]) if newest else 0
        read_at = self._clock()
        tail = await self._log.tail(published, BATCH)
        if newest and _is_of_another_history(tail, *newest[0]):
            _log.warning(
                "the revocation log was restored: beginning a new epoch", published=published, log=tail.sequence
            )
            if await self._log.begin_epoch(tail.epoch):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await redis.delete(self._stream)
            return False
        self._log.published(published)
        missing = [revocation for revocation in tail.revocations if revocation.sequence > published]
        if missing:
            async with asyncio.timeout(ANSWER_SECONDS), redis.pipeline(transaction=False) as pipeline:
                for revocation in missing:
                    fields: Any = encode(revocation, time.time())
                    pipeline.xadd(
                        self._stream, fields, id=f"{revocation.sequence}-0", maxlen=KEPT_ENTRIES, approximate=True
                    )
                for answer in await pipeline.execute(raise_on_error=False):
                    # Another process was faster: the entry is there, which is all that matters.
                    if isinstance(answer, Exception) and not (
                        isinstance(answer, ResponseError) and _PASSED in str(answer)
                    ):
                        raise answer
            self._log.published(missing[-1].sequence)
        if len(tail.revocations) == BATCH:
            return False
        if self._clock() - read_at <= LATE_SECONDS:
            async with asyncio.timeout(ANSWER_SECONDS):
                await redis.xadd(
                    heartbeat_stream(self._stream),
                    {"epoch": tail.epoch, "sequence": tail.sequence},
                    maxlen=1,
                    approximate=False,
                )
        return True


def _is_of_another_history(tail: Tail, entry_id: bytes, fields: dict[bytes, bytes]) -> bool:
    try:
        entry = decode(entry_id, fields)
    except (ValueError, KeyError):
        return True
    if entry.sequence > tail.sequence:
        return True
    return bool(tail.revocations) and tail.revocations[0].sequence == entry.sequence and tail.revocations[0] != entry
