"""What becomes of a user's resources and shares when the user is deleted."""

import asyncio
from typing import Any

import pytest
from authmesh.resource.v1 import resource_directory_pb2, resource_service_pb2
from authmesh.resource.v1.resource_directory_pb2_grpc import ResourceDirectoryStub

from mesh.audit import subject_keys
from mesh.errors import NotFound, Reason, Unauthenticated
from services.resource import erasure
from tests.integration.services.resource.conftest import Person, Replica, Service

READER, EDITOR = resource_service_pb2.ROLE_READER, resource_service_pb2.ROLE_EDITOR
OWNER = resource_service_pb2.ROLE_OWNER


async def erase(replica: Replica, person: Person, email: str = "gone@example.com", new_owner: str = "") -> None:
    request = resource_directory_pb2.DeleteSubjectRequest(subject=person.subject, email=email, new_owner=new_owner)
    await ResourceDirectoryStub(replica.channel).DeleteSubject(request)


async def read(person: Person, name: str) -> Any:
    return await person.call("GetResource", name=name)


async def test_what_the_user_owned_is_gone_for_everyone(service: Service, running: Replica) -> None:
    ada, bob = running.person(), running.person()
    names = [(await ada.create(str(number))).name for number in range(3)]
    await ada.call("ShareResource", name=names[0], user=bob.name, role=READER)
    async with bob.watch() as messages:
        await anext(messages)
        await erase(running, ada)
        async with asyncio.timeout(5):
            while (message := await anext(messages)).change != message.CHANGE_REMOVED:
                pass
        assert message.resource.name == names[0]
    for person in (ada, bob):
        with pytest.raises(NotFound):
            await read(person, names[0])
    assert (await service.event_types()).count("resource.deleted") == 3
    assert await service.database.fetchval("SELECT count(*) FROM resources") == 0


async def test_more_than_a_batch_is_handed_over(
    service: Service, running: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "BATCH", 2)
    ada, bob, eve = running.person(), running.person(), running.person()
    made = [await ada.create(str(number)) for number in range(5)]
    for user, role in ((bob.name, READER), (eve.name, EDITOR)):
        await ada.call("ShareResource", name=made[0].name, user=user, role=role)
    async with bob.watch() as messages:
        await anext(messages)
        await erase(running, ada, new_owner=bob.subject)
        heard: dict[str, int] = {}
        async with asyncio.timeout(5):
            while len(heard) < 5:
                message = await anext(messages)
                if message.resource.name:
                    heard.setdefault(message.resource.name, message.change)
    added = resource_service_pb2.WatchResourcesResponse.CHANGE_ADDED
    assert {name for name, change in heard.items() if change == added} >= {item.name for item in made[1:]}
    for item in made:
        now = await read(bob, item.name)
        assert (now.owner, now.role, now.display_name) == (bob.name, OWNER, item.display_name)
        assert now.etag != item.etag
    # Others keep what they had; the new owner needs no share.
    assert (await read(eve, made[0].name)).role == EDITOR
    shares = await bob.call("ListShares", name=made[0].name)
    assert [share.user for share in shares.shares] == [eve.name]
    assert (await service.event_types()).count("resource.owner_changed") == 5


async def test_a_new_owner_who_is_gone_as_well_gets_nothing(service: Service, running: Replica) -> None:
    ada, bob = running.person(), running.person()
    await ada.create()
    await erase(running, bob)
    await erase(running, ada, new_owner=bob.subject)
    assert await service.database.fetchval("SELECT count(*) FROM resources") == 0


async def test_shares_that_name_the_user_are_taken_back(service: Service, running: Replica) -> None:
    ada, bob = running.person(), running.person()
    service.addresses.users["bob@example.com"] = bob.id
    resource = await ada.create()
    await ada.call("ShareResource", name=resource.name, user=bob.name, role=READER)
    await ada.call("ShareResource", name=resource.name, email="Bob@Example.com", role=READER)
    await ada.call("ShareResource", name=resource.name, email="else@example.com", role=READER)
    # One that nobody has claimed yet.
    await service.database.execute("UPDATE shares SET holder_id = NULL WHERE email = 'Bob@Example.com'")
    await erase(running, bob, "bob@example.com")
    shares = (await ada.call("ListShares", name=resource.name)).shares
    assert [share.email for share in shares] == ["else@example.com"]
    assert (await service.event_types()).count("resource.unshared") == 2
    # A late claim gives nothing to someone who is gone.
    await ada.call("ShareResource", name=resource.name, email="late@example.com", role=READER)
    await running.claim(bob.id, "late@example.com")
    assert await service.database.fetchval("SELECT count(*) FROM shares WHERE holder_id = $1", bob.id) == 0


async def test_a_repeat_changes_nothing_and_nothing_becomes_theirs_again(service: Service, running: Replica) -> None:
    ada = running.person()
    await ada.create(request_id=str(ada.id))
    for _ in range(2):
        await erase(running, ada)
    with pytest.raises(Unauthenticated) as refusal:
        await ada.create()
    assert refusal.value.reason is Reason.TOKEN_REVOKED
    assert (await service.event_types()).count("resource.deleted") == 1
    assert (await subject_keys.held(service.database, [ada.name]))[ada.name] is None
    assert await service.database.fetchval("SELECT count(*) FROM creations") == 0


async def test_of_what_is_made_meanwhile_nothing_stays(service: Service, running: Replica) -> None:
    ada = running.person()

    async def make() -> None:
        with pytest.raises(Unauthenticated):
            while True:
                await ada.create()

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(make())
        await asyncio.sleep(0.05)
        await erase(running, ada)
    assert await service.database.fetchval("SELECT count(*) FROM resources") == 0
