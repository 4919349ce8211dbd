"""The relay seals what is personal, erasure makes it unreadable, and the chain verifies before and after."""

import asyncio

from authmesh.audit.v1.audit_event_pb2 import AuditEvent

from mesh.audit import subject_keys
from mesh.audit.personal import ERASED, key_names, reveal
from mesh.outbox.sinks.numbering import number_events
from mesh.outbox.work import Work
from mesh.storage.database import Database
from tests.kit.chains import verifies
from tests.kit.outbox import Collector, is_empty, relaying, until

ADA, BOB = "users/ada", "users/bob"


async def record(work: Work, *subjects: str) -> None:
    async with work.begin() as tx:
        for subject in subjects:
            tx.record(AuditEvent(type="auth.signed_in", subject=subject, address="192.0.2.1", email="a@example.org"))


async def numbered(database: Database) -> list[AuditEvent]:
    await number_events(database, "auth")
    return [
        AuditEvent.FromString(row["payload"])
        for row in await database.fetch("SELECT payload FROM outbox ORDER BY sequence")
    ]


async def shown(database: Database, event: AuditEvent) -> AuditEvent:
    return reveal(event, await subject_keys.held(database, key_names(event)))


async def erase(database: Database, subject: str) -> None:
    async with database.transaction() as tx:
        await subject_keys.erase(tx, subject)


async def test_events_leave_sealed_and_their_source_can_open_them(database: Database, work: Work) -> None:
    sink = Collector()
    await record(work, ADA, BOB, "")
    async with relaying(work, sink):
        await until(lambda: is_empty(database))
    assert len(sink.events) == 3
    assert not any(event.address or event.email for event in sink.events)
    assert [(await shown(database, event)).address for event in sink.events] == ["192.0.2.1"] * 3


async def test_erasure_makes_one_persons_data_unreadable_and_leaves_the_chain(database: Database, work: Work) -> None:
    await record(work, ADA, BOB)
    events = await numbered(database)
    await erase(database, ADA)
    await erase(database, ADA)
    assert [(await shown(database, event)).email for event in events] == [ERASED, "a@example.org"]
    assert verifies(events)


async def test_an_event_that_comes_after_the_erasure_gets_no_new_key(database: Database, work: Work) -> None:
    await erase(database, ADA)
    await record(work, ADA)
    (event,) = await numbered(database)
    assert not event.email
    assert (await shown(database, event)).email == ERASED
    assert await database.fetchval("SELECT key FROM subject_keys WHERE subject = $1", ADA) is None


async def test_days_are_forgotten_and_persons_are_not(database: Database, work: Work) -> None:
    await record(work, ADA, "")
    old = await numbered(database)
    await database.execute("UPDATE subject_keys SET create_time = now() - interval '91 days'")
    await database.execute("UPDATE subject_keys SET subject = 'days/2000-01-01' WHERE subject LIKE 'days/%'")

    async def is_forgotten() -> bool:
        return not await database.fetchval("SELECT count(*) FROM subject_keys WHERE subject = 'days/2000-01-01'")

    # Though nothing happens that would need the key of another day.
    async with relaying(work, Collector()):
        await until(is_forgotten)
    assert (await shown(database, old[0])).address == "192.0.2.1"


async def test_relays_that_need_a_new_key_at_once_agree_on_it(database: Database) -> None:
    names = [f"users/{number}" for number in range(20)]

    async def obtain(order: list[str]) -> dict[str, bytes]:
        async with database.transaction() as tx:
            return await subject_keys.obtain(tx, order)

    first, *others = await asyncio.gather(*(obtain(order) for order in (names, names[::-1]) * 4))
    assert all(other == first for other in others)
    assert len(set(first.values())) == 20
