"""What the projection makes of objects in any order, and of those that somebody else put there."""

import asyncio
import gzip
import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from mesh.storage.database import Database
from services.audit.reading.projection import Filters, Projection
from services.audit.reading.projector import Projector
from services.audit.trail import event_codec as lines
from services.audit.trail.archive import LocalArchive
from tests.conftest import OpenDatabase
from tests.kit.envelopes import NOON, event
from tests.kit.trail import Trail, chain_hash, chained


@pytest.fixture
async def database(open_database: OpenDatabase) -> Database:
    return await open_database("services.audit")


@pytest.fixture
def trail(tmp_path: Path) -> Trail:
    return Trail(tmp_path)


async def test_an_empty_database_gets_all_of_the_trail_though_the_newest_event_came_first(
    database: Database, trail: Trail
) -> None:
    old = chained(1, 3)
    trail.write(old)
    [newest] = trail.write([event(4, at=NOON + timedelta(days=400), previous_hash=chain_hash(old[-1]))])
    follower = Projector(Projection(database))
    # The consumer stores while the bucket was not listed yet: at a start with a new database, and while it is rebuilt.
    await follower.project(newest, trail.get(newest))
    await follower.catch_up(LocalArchive(trail.path))
    assert (await Projection(database).heads())["auth"].sequence == 4
    # From then on only the last days are looked at.
    assert (await Projection(database).days())["auth"] > date(2000, 1, 1)


async def test_a_clock_that_was_years_ahead_hides_nothing_that_others_store_later(
    database: Database, trail: Trail
) -> None:
    follower, archive = Projector(Projection(database)), LocalArchive(trail.path)
    ahead = event(1, at=datetime.now(UTC) + timedelta(days=400))
    trail.write([ahead])
    await follower.catch_up(archive)
    trail.write([event(2, at=datetime.now(UTC), previous_hash=chain_hash(ahead))])
    await follower.catch_up(archive)
    assert (await Projection(database).heads())["auth"].sequence == 2


async def test_nothing_that_lies_in_the_bucket_stops_the_projection(
    database: Database, trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_CONTENT", 200_000)
    long = random.Random(5).randbytes(5_000).hex()
    first = event(1, actor="users/\0", subject=f"users/{long}")
    [key] = trail.write([first])
    trail.put("audit/source=auth/dt=2026-99-99/x.jsonl.gz", trail.get(key))
    trail.put("audit/source=auth/dt=2026-11-24/bomb.jsonl.gz", gzip.compress(b"\n" * 300_000))
    trail.write(chained(1, 2, source="token"))
    await Projector(Projection(database)).catch_up(LocalArchive(trail.path))
    assert {source: head.sequence for source, head in (await Projection(database).heads()).items()} == {
        "auth": 1,
        "token": 2,
    }
    events, _ = await Projection(database).page(Filters(subject=f"users/{long}"[:500]), None, 10)
    assert [stored.event for stored in events] == [first]


async def test_rebuilding_waits_for_the_checkpointer_and_does_not_hold_it_up(database: Database, trail: Trail) -> None:
    projection = Projection(database)
    [key] = trail.write(chained(1, 3))
    async with database.transaction() as tx:
        # As the checkpointer in its pass: it catches up under its lock, by other connections.
        await tx.fetchrow("SELECT number FROM checkpoint_chain FOR UPDATE SKIP LOCKED")
        forgetting = asyncio.create_task(projection.forget())
        await asyncio.sleep(0.3)
        async with asyncio.timeout(5):
            await Projector(projection).project(key, trail.get(key))
    await forgetting
    assert await projection.heads() == {}
