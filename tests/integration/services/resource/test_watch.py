"""The stream of changes: in order, resumable without a loss, bounded, over several replicas."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import UUID

from authmesh.resource.v1 import resource_service_pb2

from mesh.contract import Contract
from mesh.errors import InvalidArgument, Reason, ResourceExhausted, Unavailable
from tests.integration.services.resource.conftest import Person, Replica, Service, Watching
from tests.kit.change_expectations import refused, until

Resource = resource_service_pb2.Resource
STREAMS = Contract.load().rpcs["/authmesh.resource.v1.ResourceService/WatchResources"].streams
Message = resource_service_pb2.WatchResourcesResponse
ADDED, UPDATED, REMOVED, HEARTBEAT = (
    Message.CHANGE_ADDED,
    Message.CHANGE_UPDATED,
    Message.CHANGE_REMOVED,
    Message.CHANGE_HEARTBEAT,
)


async def next_change(messages: Watching) -> Message:
    """The next message that is no heartbeat."""
    async with asyncio.timeout(10):
        async for message in messages:
            if message.change != HEARTBEAT:
                return message
    raise AssertionError


async def until_numbered(service: Service) -> None:
    async def numbered() -> bool:
        left = "SELECT EXISTS (SELECT FROM unnumbered_changes) OR EXISTS (SELECT FROM announcements)"
        return not await service.database.fetchval(left)

    await until(numbered)


async def changes_until(messages: Watching, last: Callable[[Message], bool]) -> list[Message]:
    found = [await next_change(messages)]
    while not last(found[-1]):
        found.append(await next_change(messages))
    return found


async def test_everybody_who_can_see_a_resource_is_told_what_happens_to_it(
    owner: Person, friend: Person, running: Replica
) -> None:
    async with owner.watch() as mine, friend.watch() as theirs, running.person().watch() as strangers:
        for messages in (mine, theirs, strangers):
            beginning = await anext(messages)
            assert (beginning.change, bool(beginning.resume_token)) == (HEARTBEAT, True)
        made = await owner.create("plan")
        added = await next_change(mine)
        assert (added.change, added.resource) == (ADDED, made)

        await owner.call("ShareResource", name=made.name, user=friend.name, role=1)
        given = await next_change(theirs)
        assert (given.change, given.resource.name, given.resource.role) == (ADDED, made.name, 1)
        await owner.call("ShareResource", name=made.name, user=friend.name, role=2)
        raised = await next_change(theirs)
        assert (raised.change, raised.resource.role) == (UPDATED, 2)

        await friend.call("UpdateResource", resource=Resource(name=made.name, content="b"))
        for messages, role in ((mine, 3), (theirs, 2)):
            updated = await next_change(messages)
            assert (updated.change, updated.resource.content, updated.resource.role) == (UPDATED, "b", role)

        await owner.call("UnshareResource", name=made.name, user=friend.name)
        taken = await next_change(theirs)
        assert (taken.change, taken.resource) == (REMOVED, Resource(name=made.name))
        await owner.call("UpdateResource", resource=Resource(name=made.name, content="c"))
        await owner.call("DeleteResource", name=made.name)
        last = (await changes_until(mine, lambda message: message.change == REMOVED))[-1]
        assert last.resource == Resource(name=made.name)
        # The next thing for the stranger and for the friend is a heartbeat: they saw nothing of the rest.
        for messages in (theirs, strangers):
            assert (await anext(messages)).change == HEARTBEAT


async def test_a_share_of_an_address_and_one_by_user_id_are_one_access_to_those_who_watch(
    service: Service, owner: Person, friend: Person
) -> None:
    service.addresses.users["friend@example.com"] = friend.id
    made = await owner.create()
    async with friend.watch() as messages:
        await anext(messages)
        await owner.call("ShareResource", name=made.name, email="friend@example.com", role=1)
        # One at a time: what follows at once may come as one change.
        assert (await next_change(messages)).change == ADDED
        await owner.call("ShareResource", name=made.name, user=friend.name, role=2)
        assert (await next_change(messages)).change == UPDATED
        await owner.call("UnshareResource", name=made.name, email="friend@example.com")
        await owner.call("UnshareResource", name=made.name, user=friend.name)
        assert (await next_change(messages)).change == REMOVED


async def test_a_broken_stream_is_resumed_without_a_loss(owner: Person) -> None:
    async with owner.watch() as messages:
        token = (await anext(messages)).resume_token
    made = [await owner.create(f"{number}") for number in range(40)]
    seen: list[str] = []
    while len(seen) < len(made):
        async with owner.watch(token) as messages:
            for _ in range(random.randint(1, 7)):
                message = await next_change(messages)
                token = message.resume_token
                seen.append(message.resource.name)
                if len(seen) == len(made):
                    break
    assert seen == [resource.name for resource in made]


async def test_an_idle_stream_says_that_it_lives_and_moves_its_token(owner: Person, friend: Person) -> None:
    async with owner.watch() as messages:
        first = await anext(messages)
        await friend.create()
        second = await anext(messages)
    assert (first.change, second.change) == (HEARTBEAT, HEARTBEAT)
    assert second.resume_token != first.resume_token


async def test_a_stream_notices_what_another_replica_committed(service: Service, running: Replica) -> None:
    other = await service.start()
    here = running.person()
    there = Person(other.channel, here.subject)
    async with here.watch() as messages:
        await anext(messages)
        made = await there.create()
        async with asyncio.timeout(0.9):  # before the heartbeat would look
            assert (await anext(messages)).resource == made


async def test_writers_at_once_on_two_replicas_lose_nothing_and_keep_each_resources_order(
    service: Service, running: Replica
) -> None:
    replicas = [running, await service.start()]
    subject = str(running.person().id)
    people = [Person(replica.channel, subject) for replica in replicas]

    async def write(person: Person) -> tuple[str, list[str]]:
        made = await person.create()
        etags = [made.etag]
        for number in range(5):
            changed = await random.choice(people).call(
                "UpdateResource", resource=Resource(name=made.name, content=f"{number}")
            )
            etags.append(changed.etag)
        await random.choice(people).call("DeleteResource", name=made.name)
        return made.name, etags

    async with people[0].watch() as first, people[1].watch() as second:
        for messages in (first, second):
            await anext(messages)
        written = await asyncio.gather(*(write(random.choice(people)) for _ in range(20)))

        async def observe(messages: Watching) -> list[Message]:
            removed, seen = 0, []
            while removed < len(written):
                seen.append(await next_change(messages))
                removed += seen[-1].change == REMOVED
            return seen

        observed = await asyncio.gather(observe(first), observe(second))
    for seen in observed:
        for name, etags in written:
            of_one = [message for message in seen if message.resource.name == name]
            assert of_one[-1].change == REMOVED
            assert REMOVED not in [message.change for message in of_one[:-1]]
            shown = [etags.index(message.resource.etag) for message in of_one[:-1]]
            assert shown == sorted(shown)


async def test_a_change_that_commits_late_is_not_skipped(service: Service, running: Replica, owner: Person) -> None:
    slow = await owner.create("slow")
    await until_numbered(service)
    async with owner.watch() as messages:
        await anext(messages)
        async with service.database.transaction() as tx:
            # Its row is written first, and committed last.
            await running.changes.append(tx, 2, UUID(slow.name.removeprefix("resources/")), owner.id)  # type: ignore[arg-type]
            fast = await owner.create("fast")
            assert (await next_change(messages)).resource == fast
        assert (await next_change(messages)).resource == slow


async def test_a_token_of_somebody_else_or_of_nobody_is_refused(
    running: Replica, owner: Person, friend: Person
) -> None:
    async with owner.watch() as messages:
        token = (await anext(messages)).resume_token
    unknown = (await running.tokens.of(owner.id)).seal(999_999)
    for person, wrong in ((friend, token), (owner, "garbage"), (owner, token[:-4]), (owner, unknown)):
        with refused(InvalidArgument, Reason.FIELD_INVALID, "resume_token"):
            async with person.watch(wrong) as messages:
                await anext(messages)


async def test_a_token_from_before_the_purge_says_to_list_again(
    service: Service, running: Replica, owner: Person, friend: Person
) -> None:
    async with owner.watch() as messages:
        old = (await anext(messages)).resume_token
    await friend.create()
    await owner.create()
    await until_numbered(service)
    service.clock.moved = timedelta(days=7, seconds=1)
    await running.retention.step()
    assert await service.database.fetchval("SELECT count(*) FROM changes") == 0
    with refused(InvalidArgument, Reason.FIELD_INVALID, "resume_token"):
        async with owner.watch(old) as messages:
            await anext(messages)
    async with owner.watch() as messages:
        token = (await anext(messages)).resume_token
    async with owner.watch(token) as messages:
        assert (await anext(messages)).change == HEARTBEAT


async def test_a_purge_goes_in_bounded_batches_and_takes_no_new_change(
    service: Service, running: Replica, owner: Person
) -> None:
    for _ in range(5):
        await owner.create()
    await until_numbered(service)
    now = service.clock()
    assert await running.changes.purge(now - timedelta(hours=1), 2) == 0
    assert [await running.changes.purge(now + timedelta(hours=1), 2) for _ in range(4)] == [2, 2, 1, 0]
    assert await service.database.fetchval("SELECT purged FROM change_head") == 5


async def test_one_who_updates_what_a_thousand_people_see_holds_up_nobody(
    service: Service, owner: Person, friend: Person
) -> None:
    made = await owner.create()
    await service.database.execute(
        """
        INSERT INTO shares (id, resource_id, grantee, holder_id, role, create_time)
        SELECT holder, $1, 'users/' || holder, holder, 1, now()
        FROM (SELECT gen_random_uuid() AS holder FROM generate_series(1, 1000)) people
        """,
        made.name.removeprefix("resources/"),
    )
    loop = asyncio.get_running_loop()
    ends = loop.time() + 4

    async def attack(number: int) -> None:
        while loop.time() < ends:
            await owner.call("UpdateResource", resource=Resource(name=made.name, content=f"{number} {loop.time()}"))

    attacks = [asyncio.ensure_future(attack(number)) for number in range(8)]
    async with friend.watch() as messages:
        await anext(messages)
        delays = []
        while loop.time() < ends - 1:
            started = loop.time()
            await friend.create()
            await next_change(messages)
            delays.append(loop.time() - started)
            await asyncio.sleep(0.2)
    await asyncio.gather(*attacks)
    # 8 at once wrote a thousand rows each and kept others waiting for ten seconds and more.
    assert max(delays) < 2
    await until_numbered(service)
    assert (
        await service.database.fetchval(
            "SELECT count(*) FROM changes WHERE resource_id = $1", made.name.removeprefix("resources/")
        )
        == 1_001
    )


async def test_a_consumer_that_does_not_read_holds_up_nobody_and_loses_nothing(owner: Person, friend: Person) -> None:
    made = await owner.create(content="x" * 65_536)
    await owner.call("ShareResource", name=made.name, user=friend.name, role=1)
    async with owner.watch() as slow, friend.watch() as quick:
        await anext(slow)
        await anext(quick)
        for number in range(100):
            await owner.call("UpdateResource", resource=Resource(name=made.name, display_name=f"{number}"))
        last = await changes_until(quick, lambda message: message.resource.display_name == "99")
        assert last[-1].resource.display_name == "99"
        seen = await changes_until(slow, lambda message: message.resource.display_name == "99")
        shown = [int(message.resource.display_name) for message in seen]
        assert shown == sorted(shown)


async def test_one_person_opens_a_bounded_number_of_streams(owner: Person, running: Replica) -> None:
    async with AsyncExitStack() as streams:
        for _ in range(STREAMS):
            await anext(await streams.enter_async_context(owner.watch()))
        with refused(ResourceExhausted, Reason.RATE_LIMITED):
            await anext(await streams.enter_async_context(owner.watch()))

    async def nothing_is_left() -> bool:
        return not running.watch._signals

    await until(nothing_is_left)
    async with owner.watch() as messages:
        await anext(messages)


async def test_an_open_stream_ends_when_the_server_drains(running: Replica, owner: Person) -> None:
    async with owner.watch() as messages:
        token = (await anext(messages)).resume_token
        running.admission.drain()
        with refused(Unavailable, Reason.DEPENDENCY_UNAVAILABLE):
            async with asyncio.timeout(2):
                await anext(messages)
    assert token


async def test_a_database_that_was_restored_sends_everybody_to_list_again(service: Service, owner: Person) -> None:
    await owner.create()
    await until_numbered(service)
    async with owner.watch() as messages:
        token = (await anext(messages)).resume_token
        await service.database.execute("UPDATE change_head SET sequence = 0")
        with refused(InvalidArgument, Reason.FIELD_INVALID, "resume_token"):
            await next_change(messages)
    with refused(InvalidArgument, Reason.FIELD_INVALID, "resume_token"):
        async with owner.watch(token) as messages:
            await anext(messages)
