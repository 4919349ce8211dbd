"""From the decision to revoke until another process refuses; and what 100,000 revocations take in memory."""

import asyncio
import gc
import random
import sys
import time
import tracemalloc
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime

from redis.asyncio import Redis

from mesh.outbox.work import Work
from mesh.storage.database import Database
from mesh.tokens.revocations import Revocation, RevocationKind, RevocationSet
from services.token.revocation.log import RevocationLog
from services.token.revocation.publisher import Publisher
from tests.bench.follower import BARE_STREAM
from tests.bench.report import Samples, Table, percentile
from tests.bench.token import servers

ENTRIES = 100_000


async def measure(seconds: float, rounds: int) -> Table:
    """Revocations one by one, in turn with a bare echo over the same stores."""
    async with servers() as (database_url, redis_url), AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.open(database_url))
        await database.execute("CREATE TABLE bench_bare (value text)")
        redis = await stack.enter_async_context(Redis.from_url(redis_url, socket_timeout=None))
        log = RevocationLog(database)
        publishing = asyncio.create_task(Publisher(redis_url, log).run())
        epoch = (await log.tail(0, 1)).epoch
        followers = {kind: await _Follower.start(kind, redis_url, epoch) for kind in ("feed", "bare")}

        async def revoke(value: str) -> None:
            async with Work(database, "token").begin() as tx:
                await log.append(tx, RevocationKind.SESSION, [value], datetime.now(UTC))
                # What is measured is when followers know; the call would only wait for the publication.
                tx.afterwards.clear()

        async def echo(value: str) -> None:
            async with database.transaction() as tx:
                await tx.execute("INSERT INTO bench_bare VALUES ($1)", value)
            await redis.xadd(BARE_STREAM, {"value": value})

        ways: dict[str, Callable[[str], Awaitable[None]]] = {"feed": revoke, "bare": echo}
        found: dict[str, list[list[float]]] = {kind: [] for kind in ways}
        for kind, way in ways.items():
            await followers[kind].latency(way)
        for _ in range(rounds):
            for kind, way in ways.items():
                end, latencies = time.monotonic() + seconds, []
                while time.monotonic() < end:
                    latencies.append(await followers[kind].latency(way))
                    await asyncio.sleep(random.uniform(0, 0.02))
                found[kind].append(latencies)
        for follower in followers.values():
            await follower.stop()
        publishing.cancel()
        with suppress(asyncio.CancelledError):
            await publishing
    rows: list[tuple[object, ...]] = []
    for kind, label in (("feed", "revoke -> refused in another process"), ("bare", "bare commit -> XADD -> XREAD")):
        middle, late = (
            Samples([1e3 * percentile(latencies, part) for latencies in found[kind]]) for part in (0.5, 0.99)
        )
        rows.append((label, f"{middle} ms", f"{late} ms"))
    ratio = Samples(
        [percentile(one, 0.5) / percentile(other, 0.5) for one, other in zip(found["feed"], found["bare"], strict=True)]
    )
    rows += [
        ("ratio of the medians", ratio, ""),
        (f"memory of {ENTRIES:,} revoked sessions", f"{_megabytes():.1f} MB", ""),
    ]
    return Table("revocation", "Revocation", ("", "p50", "p99"), rows, (
        ("From before the revoking transaction to the moment at which the other process's set holds "
        "it; both processes read CLOCK_MONOTONIC."),
        ("The bare echo is one INSERT, a commit, one XADD, and one blocked XREAD in another process: "
        "what these two stores can do at best."),
    ))  # fmt: skip


class _Follower:
    """The other process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, kind: str, redis_url: str, epoch: str) -> "_Follower":
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.bench.follower", kind, redis_url, epoch, stdout=-1, stderr=-3
            )
        )

    async def latency(self, way: Callable[[str], Awaitable[None]]) -> float:
        """Seconds until it knows."""
        value, started = str(uuid.uuid4()), time.monotonic()
        await way(value)
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            while True:
                line = (await self._process.stdout.readline()).decode().split()
                # The feed's own log goes the same way.
                if line and line[0] == value:
                    return float(line[1]) - started

    async def stop(self) -> None:
        self._process.kill()
        await self._process.communicate()


def _megabytes() -> float:
    expires_at = int(time.time()) + 3600
    gc.collect()
    tracemalloc.start()
    revocations = RevocationSet()
    revocations.add(
        Revocation(number, RevocationKind.SESSION, str(uuid.uuid4()), 0, expires_at) for number in range(1, ENTRIES + 1)
    )
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(revocations) == ENTRIES
    return size / 1e6
