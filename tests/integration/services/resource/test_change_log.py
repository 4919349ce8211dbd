"""The log: what a change costs, whose turn it is, and what somebody is told who is behind."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from mesh.ids import uuid7
from mesh.storage.database import Database
from services.resource import store
from services.resource.change_log import NUMBERED_AT_ONCE, ChangeLog
from services.resource.resource import Draft, Resource, Role
from services.resource.share import Change
from tests.conftest import OpenDatabase

ADDED, UPDATED, REMOVED = Change.ADDED, Change.UPDATED, Change.REMOVED


class Monotonic:
    """Time that tests move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def database(open_database: OpenDatabase) -> Database:
    return await open_database("services.resource")


@pytest.fixture
def time() -> Monotonic:
    return Monotonic()


@pytest.fixture
def log(database: Database, time: Monotonic) -> ChangeLog:
    return ChangeLog(database, monotonic=time)


async def new_resource(database: Database, owner: UUID | None = None, viewers: Sequence[UUID] = ()) -> Resource:
    now = datetime.now(UTC)
    made = Resource(
        uuid7(), owner or uuid7(), Draft("plan", "a"), version=1, created_at=now, updated_at=now, role=Role.OWNER
    )
    async with database.transaction() as tx:
        await store.insert(tx, made)
        await tx.execute(
            """
            INSERT INTO shares (id, resource_id, grantee, holder_id, role, create_time)
            SELECT gen_random_uuid(), $1, 'users/' || holder, holder, 1, now() FROM unnest($2::uuid[]) holder
            """,
            made.id,
            list(viewers),
        )
    return made


async def update(database: Database, log: ChangeLog, resource: Resource) -> None:
    async with database.transaction() as tx:
        await store.lock(tx, resource.id, resource.owner)
        await log.announce(tx, resource)


async def remove(database: Database, log: ChangeLog, resource: Resource) -> None:
    async with database.transaction() as tx:
        await log.announce(tx, resource, removed=True)
        await store.delete(tx, resource.id)


async def append(database: Database, log: ChangeLog, change: Change, resource: Resource, user: UUID) -> None:
    async with database.transaction() as tx:
        await log.append(tx, change, resource.id, user)


async def heard(log: ChangeLog, user: UUID, after: int = 0) -> list[tuple[Change, UUID]]:
    return [(entry.change, entry.resource_id) for entry in (await log.read(user, after, 100)).entries]


def people(number: int) -> list[UUID]:
    return [uuid4() for _ in range(number)]


async def test_an_update_writes_one_row_however_many_people_see_the_resource_and_however_often_it_is_updated(
    database: Database, log: ChangeLog
) -> None:
    viewers = people(1_000)
    resource = await new_resource(database, viewers=viewers)
    for _ in range(20):
        await update(database, log, resource)
    assert await database.fetchval("SELECT count(*) FROM announcements") == 1
    assert await database.fetchval("SELECT count(*) FROM unnumbered_changes") == 0

    assert (await log.number()).head == 1_001
    assert await heard(log, viewers[0]) == await heard(log, resource.owner) == [(UPDATED, resource.id)]


async def test_the_log_keeps_one_row_of_each_person_and_resource(
    database: Database, log: ChangeLog, time: Monotonic
) -> None:
    viewers = people(50)
    resource = await new_resource(database, viewers=viewers)
    for _ in range(5):
        await update(database, log, resource)
        assert (await log.number()).more
        time.now += 1
    assert await database.fetchval("SELECT count(*) FROM changes") == 51
    assert await log.head() == 5 * 51


async def test_single_changes_are_numbered_in_batches_and_in_their_order(database: Database, log: ChangeLog) -> None:
    user = uuid7()
    resources = [await new_resource(database, user) for _ in range(3)]
    for resource in resources:
        await append(database, log, ADDED, resource, user)
    await database.execute(
        "INSERT INTO unnumbered_changes (user_id, resource_id, change) SELECT gen_random_uuid(), "
        "gen_random_uuid(), 1 FROM generate_series(1, $1)",
        NUMBERED_AT_ONCE,
    )
    first, second = await log.number(), await log.number()
    assert (first.head, first.more) == (NUMBERED_AT_ONCE, True)
    assert (second.head, second.more) == (NUMBERED_AT_ONCE + 3, False)
    assert await heard(log, user) == [(ADDED, resource.id) for resource in resources]


async def test_one_who_announces_to_many_makes_nobody_else_wait(
    database: Database, log: ChangeLog, time: Monotonic
) -> None:
    busy, quiet = uuid7(), uuid7()
    viewers = people(900)
    for _ in range(5):
        await update(database, log, await new_resource(database, busy, viewers))
    small = await new_resource(database, quiet, people(1))
    await update(database, log, small)

    assert (await log.number()).head == 901 + 2
    assert await heard(log, quiet) == [(UPDATED, small.id)]
    # The busy one reaches a thousand people a second, and not more.
    assert not (await log.number()).more
    time.now += 0.9
    assert (await log.number()).head == 903
    time.now += 0.1
    assert (await log.number()).head == 903 + 901
    assert len(await heard(log, busy)) == 2


async def test_a_batch_of_announcements_is_bounded_and_the_longest_waiting_goes_first(
    database: Database, log: ChangeLog
) -> None:
    resources = [await new_resource(database, viewers=people(400)) for _ in range(4)]
    for resource in resources:
        await update(database, log, resource)
    assert (await log.number()).head == 2 * 401
    assert [await heard(log, resource.owner) for resource in resources] == [
        [(UPDATED, resources[0].id)],
        [(UPDATED, resources[1].id)],
        [],
        [],
    ]
    assert (await log.number()).head == 4 * 401


async def test_one_who_is_behind_is_told_what_matters_to_them(
    database: Database, log: ChangeLog, time: Monotonic
) -> None:
    friend = uuid7()
    resource = await new_resource(database, viewers=[friend])

    async def settled() -> int:
        time.now += 1
        while (await log.number()).more:
            pass
        return await log.head()

    await append(database, log, ADDED, resource, friend)
    await update(database, log, resource)
    added = await settled()
    await update(database, log, resource)
    await settled()
    assert await heard(log, friend, after=0) == [(ADDED, resource.id)]
    assert await heard(log, friend, after=added) == [(UPDATED, resource.id)]
    await append(database, log, REMOVED, resource, friend)
    removed = await settled()
    assert await heard(log, friend, after=0) == await heard(log, friend, after=added) == [(REMOVED, resource.id)]
    await append(database, log, ADDED, resource, friend)
    await settled()
    assert await heard(log, friend, after=removed) == await heard(log, friend, after=0) == [(ADDED, resource.id)]


async def test_a_deletion_is_the_last_that_anybody_hears_of_a_resource(database: Database, log: ChangeLog) -> None:
    viewers = people(3)
    resource = await new_resource(database, viewers=viewers)
    await update(database, log, resource)
    for viewer in viewers:
        await append(database, log, ADDED, resource, viewer)
    await remove(database, log, resource)
    while (await log.number()).more:
        pass
    for person in (resource.owner, *viewers):
        assert await heard(log, person) == [(REMOVED, resource.id)]
    assert await database.fetchval("SELECT count(*) FROM shares") == 0


async def test_a_deletion_waits_for_the_single_changes_of_before(database: Database, log: ChangeLog) -> None:
    [viewer] = people(1)
    resource = await new_resource(database, viewers=[viewer])
    await database.execute(
        "INSERT INTO unnumbered_changes (user_id, resource_id, change) SELECT gen_random_uuid(), "
        "gen_random_uuid(), 1 FROM generate_series(1, $1)",
        NUMBERED_AT_ONCE,
    )
    await append(database, log, ADDED, resource, viewer)
    await remove(database, log, resource)
    await log.number()
    assert await heard(log, viewer) == []
    while (await log.number()).more:
        pass
    assert await heard(log, viewer) == [(REMOVED, resource.id)]


async def test_an_announcement_is_not_made_before_the_update_that_it_tells_of(
    database: Database, log: ChangeLog
) -> None:
    resource = await new_resource(database)
    await update(database, log, resource)
    async with database.transaction() as tx:
        await log.announce(tx, resource)
        assert (await log.number()).head == 0
    assert (await log.number()).head == 1


async def test_processes_that_number_update_and_purge_at_once_lose_nothing(database: Database) -> None:
    viewers = people(20)
    resources = [await new_resource(database, viewers=viewers) for _ in range(5)]
    logs = [ChangeLog(database, monotonic=iter(range(10**9)).__next__) for _ in range(2)]
    working = True

    async def number(log: ChangeLog) -> None:
        while working:
            await log.number()

    async def purge() -> None:
        while working:
            await logs[0].purge(datetime.now(UTC) + timedelta(hours=1), 7)

    async def write(resource: Resource) -> None:
        for _ in range(40):
            await update(database, logs[0], resource)

    background = [asyncio.ensure_future(task) for task in (number(logs[0]), number(logs[1]), purge())]
    await asyncio.gather(*(write(resource) for resource in resources))
    working = False
    await asyncio.gather(*background)
    before = await logs[0].head()
    for resource in resources:
        await update(database, logs[0], resource)
    while (await logs[0].number()).more:
        pass
    for person in (*viewers, resources[0].owner):
        assert {change for change, _ in await heard(logs[0], person, before)} == {UPDATED}
    assert len(await heard(logs[0], viewers[0], before)) == len(resources)
