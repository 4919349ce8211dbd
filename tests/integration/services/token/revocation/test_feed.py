"""The feed from PostgreSQL through a real Valkey to a process's set, and what becomes of it when something breaks."""

import asyncio
import os
import signal
import time
import uuid
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from mesh.errors import Unavailable
from mesh.local.components import valkey
from mesh.outbox.work import Work
from mesh.storage.database import Database
from mesh.tokens.feed import STREAM, heartbeat_stream
from mesh.tokens.revocations import RevocationKind
from mesh.tokens.verifier import LEEWAY_SECONDS, MAX_LIFETIME_SECONDS
from services.token.revocation import log as revocation_log_module
from services.token.revocation import publisher as publisher_module
from services.token.revocation.log import KEPT, PIECE, RevocationLog
from services.token.revocation.publisher import Publisher
from tests.conftest import OpenDatabase, held
from tests.integration.services.token.conftest import Clock
from tests.kit.revocation_feed import PATIENCE, Consumer, eventually, running
from tests.kit.snapshots import whole


@pytest.fixture
async def database(open_database: OpenDatabase) -> Database:
    return await open_database("services.token")


@pytest.fixture
def log(database: Database) -> RevocationLog:
    return RevocationLog(database)


async def revoke(database: Database, log: RevocationLog, *values: str) -> None:
    """Revokes, and does not wait for the publication."""
    async with Work(database, "token").begin() as tx:
        await log.append(tx, RevocationKind.SESSION, values or [str(uuid.uuid4())], Clock()())
        tx.afterwards.clear()


async def entries_in(redis: Redis, last: str = "+") -> Any:
    return await redis.xrange(STREAM, max=last)


async def sequence_in(redis: Redis) -> list[int]:
    return [int(entry_id.partition(b"-")[0]) for entry_id, _ in await entries_in(redis)]


async def test_a_revocation_reaches_every_process_within_milliseconds(
    valkey_url: str, database: Database, log: RevocationLog
) -> None:
    consumers = [Consumer(valkey_url, log) for _ in range(3)]
    async with running(Publisher(valkey_url, log), *(consumer.feed for consumer in consumers)):
        await eventually(lambda: all(consumer.feed.loaded for consumer in consumers))
        started = time.monotonic()
        await revoke(database, log, "s1")
        await eventually(lambda: all(consumer.knows(1) for consumer in consumers))
        assert time.monotonic() - started < 1
        assert all(0 <= consumer.feed.take_deliveries()[0] < 1 for consumer in consumers)
        assert [consumer.snapshots for consumer in consumers] == [1, 1, 1]


async def test_a_transaction_that_revokes_ends_when_redis_has_it(
    valkey_url: str, database: Database, log: RevocationLog
) -> None:
    async with running(Publisher(valkey_url, log)), Redis.from_url(valkey_url) as redis:
        for number in range(1, 31):
            async with Work(database, "token").begin() as tx:
                await log.append(tx, RevocationKind.SESSION, [str(number)], Clock()())
            assert (await sequence_in(redis))[-1] == number


async def test_any_number_of_them_at_once_end_when_redis_has_theirs(
    valkey_url: str, database: Database, log: RevocationLog
) -> None:
    async with running(Publisher(valkey_url, log)), Redis.from_url(valkey_url) as redis:

        async def revoke_and_look(value: str) -> None:
            async with Work(database, "token").begin() as tx:
                await log.append(tx, RevocationKind.SESSION, [value], Clock()())
            assert value.encode() in {fields[b"value"] for _, fields in await entries_in(redis)}

        await asyncio.gather(*(revoke_and_look(str(number)) for number in range(40)))


async def test_one_that_another_process_has_published_has_been_published(
    valkey_url: str, database: Database, log: RevocationLog
) -> None:
    other = RevocationLog(database)
    mine = Publisher(valkey_url, log)
    async with running(Publisher(valkey_url, other), mine), Redis.from_url(valkey_url) as redis:
        for number in range(1, 11):
            one = log if number % 2 else other
            async with Work(database, "token").begin() as tx:
                await one.append(tx, RevocationKind.SESSION, [str(number)], Clock()())
            assert (await sequence_in(redis))[-1] == number


async def test_without_redis_a_revocation_is_committed_and_answered_all_the_same(
    database: Database, log: RevocationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation_log_module, "PUBLISHED_SECONDS", 0.2)
    async with running(Publisher("redis://127.0.0.1:1", log)):
        started = time.monotonic()
        async with Work(database, "token").begin() as tx:
            await log.append(tx, RevocationKind.SESSION, ["s1"], Clock()())
        assert 0.2 <= time.monotonic() - started < 5
        # One that revokes nothing waits for nothing.
        monkeypatch.setattr(revocation_log_module, "PUBLISHED_SECONDS", 60)
        async with Work(database, "token").begin():
            pass
    assert (await log.tail(0, 1)).sequence == 1


async def test_where_nothing_publishes_nothing_waits(
    database: Database, log: RevocationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in `authmesh keys`, which leaves that to the running processes.
    monkeypatch.setattr(revocation_log_module, "PUBLISHED_SECONDS", 60)
    async with asyncio.timeout(PATIENCE), Work(database, "token").begin() as tx:
        await log.append(tx, RevocationKind.SESSION, ["s1"], Clock()())


async def test_a_live_feed_stays_fresh(valkey_url: str, log: RevocationLog) -> None:
    consumer = Consumer(valkey_url, log)
    async with running(Publisher(valkey_url, log), consumer.feed):
        await eventually(lambda: consumer.feed.loaded)
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline:
            assert consumer.feed.staleness() < 2.5
            await asyncio.sleep(0.05)


async def test_before_the_first_snapshot_nothing_is_known(valkey_url: str, log: RevocationLog) -> None:
    consumer = Consumer(valkey_url, log)
    consumer.reachable = False
    async with running(Publisher(valkey_url, log), consumer.feed):
        await asyncio.sleep(0.7)
        assert not consumer.feed.loaded
        assert consumer.feed.staleness() == float("inf")
        consumer.reachable = True
        await eventually(lambda: consumer.feed.loaded)


async def test_without_a_publisher_the_feed_goes_stale_though_redis_answers(
    valkey_url: str, log: RevocationLog
) -> None:
    consumer = Consumer(valkey_url, log)
    async with running(consumer.feed):
        async with running(Publisher(valkey_url, log)):
            await eventually(lambda: consumer.feed.loaded)
        before = consumer.feed.staleness()
        await asyncio.sleep(1.2)
        assert consumer.feed.staleness() >= before + 1


async def test_an_old_heartbeat_found_on_connecting_proves_nothing(valkey_url: str, log: RevocationLog) -> None:
    async with running(Publisher(valkey_url, log)), Redis.from_url(valkey_url) as redis:
        async with asyncio.timeout(PATIENCE):
            while not await redis.xlen(heartbeat_stream(STREAM)):
                await asyncio.sleep(0.01)
    consumer = Consumer(valkey_url, log)
    async with running(consumer.feed):
        await eventually(lambda: consumer.feed.loaded)
        await asyncio.sleep(1)
        assert consumer.feed.staleness() >= 0.9


async def test_what_was_revoked_before_the_process_started_comes_with_the_snapshot(
    valkey_url: str, database: Database, log: RevocationLog
) -> None:
    await revoke(database, log, "s1", "s2")
    consumer = Consumer(valkey_url, log)
    async with running(consumer.feed):
        await eventually(lambda: consumer.knows(2))
        assert len(consumer.known) == 2


async def test_several_publishers_at_once_do_no_harm(valkey_url: str, database: Database, log: RevocationLog) -> None:
    logs = [RevocationLog(database) for _ in range(3)]
    consumer = Consumer(valkey_url, log)
    async with (
        running(*(Publisher(valkey_url, one) for one in logs), consumer.feed),
        Redis.from_url(valkey_url) as redis,
    ):
        await asyncio.gather(*(revoke(database, logs[number % 3]) for number in range(100)))
        await eventually(lambda: consumer.knows(100))
        assert await sequence_in(redis) == list(range(1, 101))
        assert len(consumer.known) == 100


async def test_sequences_are_contiguous_also_when_transactions_fail(database: Database, log: RevocationLog) -> None:
    async def attempt(number: int) -> None:
        with suppress(ValueError):
            async with Work(database, "token").begin() as tx:
                await log.append(tx, RevocationKind.TOKEN, ["a", "b"], Clock()())
                if number % 3 == 0:
                    raise ValueError

    await asyncio.gather(*(attempt(number) for number in range(30)))
    rows = await database.fetch("SELECT sequence FROM revocations ORDER BY sequence")
    assert [row["sequence"] for row in rows] == list(range(1, 41))


async def test_an_emptied_redis_is_refilled_and_consumers_lose_nothing(
    valkey_url: str, database: Database, log: RevocationLog
) -> None:
    consumer = Consumer(valkey_url, log)
    async with running(Publisher(valkey_url, log), consumer.feed), Redis.from_url(valkey_url) as redis:
        await revoke(database, log, "s1", "s2", "s3")
        await eventually(lambda: consumer.knows(3))
        await redis.flushall()
        await revoke(database, log, "s4")
        await eventually(lambda: consumer.knows(4))
        assert await sequence_in(redis) == [1, 2, 3, 4]
        assert len(consumer.known) == 4


async def test_redis_killed_and_restarted_empty_catches_up_by_itself(
    tmp_path: Path, database: Database, log: RevocationLog
) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(held(valkey.running(tmp_path)))
        consumer = Consumer(server.url, log)
        await stack.enter_async_context(running(Publisher(server.url, log), consumer.feed))
        await revoke(database, log, "s1")
        await eventually(lambda: consumer.knows(1))
        async with Redis.from_url(server.url) as redis:
            os.kill((await redis.info("server"))["process_id"], signal.SIGKILL)
        await revoke(database, log, "s2")
        await eventually(lambda: consumer.knows(2))
        await eventually(lambda: consumer.feed.staleness() < 1.5)


async def test_entries_lost_in_a_failover_are_refilled(valkey_url: str, database: Database, log: RevocationLog) -> None:
    early, late = Consumer(valkey_url, log), Consumer(valkey_url, log)
    async with running(Publisher(valkey_url, log), early.feed, late.feed), Redis.from_url(valkey_url) as redis:
        await revoke(database, log, "s1")
        await eventually(lambda: early.knows(1) and late.knows(1))
        async with running():
            await revoke(database, log, "s2", "s3")
        await eventually(lambda: early.knows(3))
        # The new primary never saw 2 and 3: its stream is that of an earlier moment.
        entries = await entries_in(redis, last="1-0")
        await redis.delete(STREAM)
        for entry_id, fields in entries:
            await redis.xadd(STREAM, fields, id=entry_id)
        await revoke(database, log, "s4")
        await eventually(lambda: early.knows(4) and late.knows(4))
        assert await sequence_in(redis) == [1, 2, 3, 4]


async def test_a_gap_is_refused_and_mended_by_a_snapshot(
    valkey_url: str, database: Database, log: RevocationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = Consumer(valkey_url, log)
    async with running(consumer.feed), Redis.from_url(valkey_url) as redis:
        await eventually(lambda: consumer.feed.loaded)
        await revoke(database, log, "s1", "s2", "s3")
        # Trimmed away before this process read it.
        await redis.xadd(
            STREAM, {"kind": 2, "value": "s3", "not_before": 0, "expires_at": int(time.time()) + 60}, id="3-0"
        )
        await eventually(lambda: consumer.knows(3))
        assert consumer.snapshots == 2
        assert len(consumer.known) == 3


async def test_a_heartbeat_that_covers_more_than_the_stream_has_is_a_gap(
    valkey_url: str, database: Database, log: RevocationLog
) -> None:
    consumer = Consumer(valkey_url, log)
    async with running(consumer.feed), Redis.from_url(valkey_url) as redis:
        await eventually(lambda: consumer.feed.loaded)
        await revoke(database, log, "s1")
        epoch = (await log.tail(0, 1)).epoch
        await redis.xadd(heartbeat_stream(STREAM), {"epoch": epoch, "sequence": 1})
        await eventually(lambda: consumer.knows(1))
        assert consumer.snapshots == 2


async def test_a_trimmed_stream_is_safe_with_a_snapshot(
    valkey_url: str, database: Database, log: RevocationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "KEPT_ENTRIES", 100)
    await revoke(database, log, *(f"s{number}" for number in range(2500)))
    consumer = Consumer(valkey_url, log)
    async with running(Publisher(valkey_url, log), consumer.feed), Redis.from_url(valkey_url) as redis:
        await eventually(lambda: consumer.knows(2500))
        await revoke(database, log)
        await eventually(lambda: consumer.knows(2501))
        assert len(consumer.known) == 2501
        assert await redis.xlen(STREAM) < 2501


async def test_a_restored_database_begins_a_new_epoch(valkey_url: str, database: Database, log: RevocationLog) -> None:
    consumer = Consumer(valkey_url, log)
    async with running(Publisher(valkey_url, log), consumer.feed), Redis.from_url(valkey_url) as redis:
        await revoke(database, log, "s1", "s2", "s3")
        await eventually(lambda: consumer.knows(3))
        epoch = (await log.tail(0, 1)).epoch
        # The backup is of a moment when only one had been revoked.
        async with database.transaction() as tx:
            await tx.execute("DELETE FROM revocations WHERE sequence > 1")
            await tx.execute("UPDATE revocation_log SET sequence = 1")
        await eventually(lambda: consumer.feed.sequence == 1)
        assert (await log.tail(0, 1)).epoch != epoch
        await revoke(database, log, "s9")
        await eventually(lambda: consumer.feed.sequence == 2)
        assert await sequence_in(redis) == [1, 2]
        # What was known to be revoked stays refused.
        assert len(consumer.known) == 4


async def test_a_restored_database_that_has_caught_up_is_noticed_by_its_content(
    valkey_url: str, database: Database, log: RevocationLog
) -> None:
    publisher = Publisher(valkey_url, log)
    async with Redis.from_url(valkey_url) as redis:
        await revoke(database, log, "s1", "s2")
        assert await publisher.publish_once(redis)
        epoch = (await log.tail(0, 1)).epoch
        await database.execute("UPDATE revocations SET value = 'another' WHERE sequence = 2")
        assert not await publisher.publish_once(redis)
        assert await publisher.publish_once(redis)
        assert (await log.tail(0, 1)).epoch != epoch
        assert (await entries_in(redis))[-1][1][b"value"] == b"another"


async def test_a_publisher_without_its_database_does_not_look_fresh(
    valkey_url: str, database: Database, log: RevocationLog
) -> None:
    consumer = Consumer(valkey_url, log)
    async with running(Publisher(valkey_url, log), consumer.feed):
        await eventually(lambda: consumer.feed.loaded)
        await database._pool.close()
        await asyncio.sleep(0.6)
        before = consumer.feed.staleness()
        await asyncio.sleep(1)
        assert consumer.feed.staleness() >= before + 0.9


async def test_an_entry_is_kept_no_shorter_than_to_the_second(database: Database, log: RevocationLog) -> None:
    clock = Clock()
    clock.now = clock.now.replace(microsecond=900_000)
    async with Work(database, "token").begin() as tx:
        await log.append(tx, RevocationKind.SESSION, ["s1"], clock())
    (entry,) = (await whole(log.snapshot(clock()))).revocations
    assert entry.expires_at >= (clock() + KEPT).timestamp()


async def test_the_snapshot_is_of_one_moment_and_holds_nothing_expired(database: Database, log: RevocationLog) -> None:
    clock = Clock()
    async with Work(database, "token").begin() as tx:
        await log.append(tx, RevocationKind.SUBJECT, ["u1"], clock(), clock())
    # A process whose clock is behind admits the longest token for that much longer.
    clock.pass_by(seconds=MAX_LIFETIME_SECONDS + LEEWAY_SECONDS + 30)
    assert len((await whole(log.snapshot(clock()))).revocations) == 1
    clock.pass_by(hours=1)
    async with Work(database, "token").begin() as tx:
        await log.append(tx, RevocationKind.TOKEN, ["t1"], clock())
    snapshot = await whole(log.snapshot(clock()))
    assert snapshot.sequence == 2
    assert [(entry.kind, entry.value) for entry in snapshot.revocations] == [(RevocationKind.TOKEN, "t1")]


async def test_a_snapshot_of_many_pieces_is_of_the_moment_of_its_first(database: Database, log: RevocationLog) -> None:
    async def revoke(*values: str) -> None:
        async with Work(database, "token").begin() as tx:
            await log.append(tx, RevocationKind.SESSION, values, Clock()())

    values = [str(number) for number in range(2 * PIECE + 1)]
    await revoke(*values)
    async with aclosing(log.snapshot(Clock()())) as pieces:
        read = [await anext(pieces)]
        await revoke("later")
        read += [piece async for piece in pieces]
    assert [len(piece.revocations) for piece in read] == [PIECE, PIECE, 1]
    assert {piece.sequence for piece in read} == {len(values)}
    assert [revocation.value for piece in read for revocation in piece.revocations] == values


async def test_a_log_that_is_restored_meanwhile_ends_a_snapshot(database: Database, log: RevocationLog) -> None:
    async with Work(database, "token").begin() as tx:
        await log.append(tx, RevocationKind.SESSION, [str(number) for number in range(PIECE + 1)], Clock()())
    async with aclosing(log.snapshot(Clock()())) as pieces:
        first = await anext(pieces)
        await log.begin_epoch(first.epoch)
        with pytest.raises(Unavailable):
            await anext(pieces)
