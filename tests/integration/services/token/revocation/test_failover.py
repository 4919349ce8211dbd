"""The feed on a set with a Sentinel and on a Cluster, while its primary dies and takes with it what no replica has, or
is cut off.

One property is held at every moment of every history: a process whose staleness is s knows everything that was revoked
more than s seconds ago, and refuses nothing else. So within the bound of a method no revoked token gets in, past it the
answer is UNAVAILABLE, and no good token is ever called revoked.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest

from mesh.outbox.work import Work
from mesh.storage.database import Database
from mesh.tokens.claims import Claims
from mesh.tokens.revocations import RevocationKind
from services.token.revocation.log import RevocationLog
from services.token.revocation.publisher import Publisher
from tests.conftest import OpenDatabase, held
from tests.integration.services.token.conftest import Clock
from tests.kit.revocation_feed import Consumer, running
from tests.kit.valkey_sets import Set, cluster, eventually, sentinel_set

BOUND_SECONDS = 5.0
"""Of sensitive methods."""
pytestmark = pytest.mark.slow


def claims(session: str) -> Claims:
    now = int(time.time())
    return Claims("u", session, "demo", frozenset(), frozenset(), f"of-{session}", now, now + 600, now, ("pwd",), "k")


class Watch:
    """Revokes, and holds every consumer against what was revoked."""

    def __init__(self, database: Database, log: RevocationLog, consumers: list[Consumer]) -> None:
        self._database, self._log, self._consumers = database, log, consumers
        self._revoked: dict[str, float] = {}
        self._good = claims("good")
        self.looks = 0
        self.stale_looks = 0

    async def revoke(self, *sessions: str) -> None:
        async with Work(self._database, "token").begin() as tx:
            await self._log.append(tx, RevocationKind.SESSION, sessions, Clock()())
            tx.afterwards.clear()
        committed = time.monotonic()
        self._revoked |= dict.fromkeys(sessions, committed)

    def look(self) -> None:
        for consumer in self._consumers:
            knows_until = time.monotonic() - consumer.feed.staleness()
            self.looks += 1
            self.stale_looks += consumer.feed.staleness() > BOUND_SECONDS
            for session, committed in self._revoked.items():
                assert committed > knows_until or consumer.known.refuses(claims(session)), f"{session} gets in"
            assert not consumer.known.refuses(self._good), "a good token is called revoked"

    def all_known(self) -> bool:
        return all(consumer.known.refuses(claims(session)) for consumer in self._consumers for session in self._revoked)

    def all_fresh(self) -> bool:
        return all(consumer.feed.staleness() < 1.5 for consumer in self._consumers)

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        async def look_on() -> None:
            while True:
                self.look()
                await asyncio.sleep(0.01)

        task = asyncio.create_task(look_on())
        try:
            yield
            assert not task.done() or task.result()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def recovered(self) -> None:
        async def holds() -> bool:
            return self.all_known() and self.all_fresh()

        await eventually(holds)


SETS: list[Callable[[Path], AbstractAsyncContextManager[Set]]] = [sentinel_set, cluster]


@pytest.fixture(params=SETS, ids=["sentinel", "cluster"])
async def valkeys(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Set]:
    async with held(request.param(tmp_path)) as found:
        yield found


@pytest.fixture
async def database(open_database: OpenDatabase) -> Database:
    return await open_database("services.token")


async def test_entries_that_die_with_their_primary_are_published_again(valkeys: Set, database: Database) -> None:
    log = RevocationLog(database)
    consumers = [Consumer(valkeys.url, log) for _ in range(2)]
    publishers = [Publisher(valkeys.url, RevocationLog(database)), Publisher(valkeys.url, log)]
    watch = Watch(database, log, consumers)
    async with running(*publishers, *(consumer.feed for consumer in consumers)), watch.looking():
        await watch.revoke("before")
        await watch.recovered()
        await valkeys.replica.stop_replicating()
        await watch.revoke("lost-1", "lost-2", "lost-3")
        await eventually(lambda: _holds(watch.all_known))
        assert await valkeys.primary.ask("XLEN", "authmesh:revocations") == 4
        snapshots = [consumer.snapshots for consumer in consumers]

        await valkeys.lose_the_primary()
        await watch.revoke("after")
        await watch.recovered()
        assert await valkeys.replica.ask("XLEN", "authmesh:revocations") == 5
        # Who had the lost entries ignores the repeats: nobody had to load a snapshot again.
        assert [consumer.snapshots for consumer in consumers] == snapshots
    assert watch.looks > 100


async def test_a_process_that_starts_after_the_failover_knows_everything(valkeys: Set, database: Database) -> None:
    log = RevocationLog(database)
    early, late = Consumer(valkeys.url, log), Consumer(valkeys.url, log)
    watch = Watch(database, log, [early])
    async with running(Publisher(valkeys.url, log), early.feed):
        await watch.revoke("before")
        await watch.recovered()
        await valkeys.replica.stop_replicating()
        await watch.revoke("lost")
        await watch.recovered()
        await valkeys.lose_the_primary()
        watch = Watch(database, log, [early, late])
        async with running(late.feed), watch.looking():
            await watch.revoke("after")
            await watch.recovered()
            assert late.known.refuses(claims("lost"))


async def test_a_primary_that_is_cut_off_makes_processes_stale_and_never_wrong(
    valkeys: Set, database: Database
) -> None:
    log = RevocationLog(database)
    consumer = Consumer(valkeys.url, log)
    watch = Watch(database, log, [consumer])
    async with running(Publisher(valkeys.url, log), consumer.feed), watch.looking():
        await watch.revoke("before")
        await watch.recovered()
        valkeys.primary.freeze()
        await watch.revoke("during")
        await eventually(valkeys.replica.is_primary)
        await watch.recovered()
        # The old primary comes back believing what it believed.
        valkeys.primary.thaw()
        await watch.revoke("after")
        await watch.recovered()
    assert watch.stale_looks > 0


async def _holds(condition: Callable[[], bool]) -> bool:
    return condition()
