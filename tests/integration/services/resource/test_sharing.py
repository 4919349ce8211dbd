"""Giving access and taking it back, by user and by address."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from authmesh.resource.v1 import resource_service_pb2

from mesh.errors import Internal, InvalidArgument, NotFound, PermissionDenied, Reason, ResourceExhausted
from services.resource import sharing
from services.resource.share import MAX_SHARES
from tests.integration.services.resource.conftest import Person, Replica, Service
from tests.kit.change_expectations import refused, until

Resource = resource_service_pb2.Resource
READER, EDITOR = resource_service_pb2.ROLE_READER, resource_service_pb2.ROLE_EDITOR


async def role_of(person: Person, name: str) -> int:
    try:
        return int((await person.call("GetResource", name=name)).role)
    except NotFound:
        return 0


async def test_a_reader_reads_an_editor_edits_and_only_the_owner_shares(
    service: Service, owner: Person, friend: Person
) -> None:
    made = await owner.create()
    shared = await owner.call("ShareResource", name=made.name, user=friend.name, role=READER)
    assert (shared.user, shared.email, shared.role) == (friend.name, "", READER)
    assert await role_of(friend, made.name) == READER
    with refused(PermissionDenied, Reason.ROLE_MISSING):
        await friend.call("UpdateResource", resource=Resource(name=made.name, content="b"))

    again = await owner.call("ShareResource", name=made.name, user=friend.name, role=EDITOR)
    assert (again.role, again.create_time) == (EDITOR, shared.create_time)
    assert (await friend.call("UpdateResource", resource=Resource(name=made.name, content="b"))).role == EDITOR
    for method, fields in (
        ("DeleteResource", {}),
        ("ListShares", {}),
        ("ShareResource", {"user": friend.name, "role": EDITOR}),
        ("ShareResource", {"email": "x@example.com", "role": READER}),
        ("UnshareResource", {"email": "x@example.com"}),
        ("UnshareResource", {"user": owner.name}),
    ):
        with refused(PermissionDenied, Reason.ROLE_MISSING):
            await friend.call(method, name=made.name, **fields)
        denied = (await service.events())[-1]
        assert (denied.type, denied.reason, denied.actor) == ("resource.access_denied", "ROLE_MISSING", friend.name)
    events = [
        (event.type, event.subject, event.detail["role"])
        for event in await service.events()
        if event.type == "resource.shared"
    ]
    assert events == [("resource.shared", friend.name, "reader"), ("resource.shared", friend.name, "editor")]


async def test_sharing_twice_alike_is_one_share_and_one_event(service: Service, owner: Person, friend: Person) -> None:
    made = await owner.create()
    shares = await asyncio.gather(
        *(owner.call("ShareResource", name=made.name, user=friend.name, role=READER) for _ in range(5))
    )
    assert all(share == shares[0] for share in shares)
    assert (await service.event_types()).count("resource.shared") == 1


async def test_an_owner_cannot_share_with_themselves(owner: Person) -> None:
    made = await owner.create()
    with refused(InvalidArgument, Reason.FIELD_INVALID, "user"):
        await owner.call("ShareResource", name=made.name, user=owner.name, role=READER)


async def test_access_that_was_taken_back_is_gone_at_once(service: Service, owner: Person, friend: Person) -> None:
    made = await owner.create()
    await owner.call("ShareResource", name=made.name, user=friend.name, role=EDITOR)
    for _ in range(2):
        await owner.call("UnshareResource", name=made.name, user=friend.name)
    assert await role_of(friend, made.name) == 0
    assert (await service.event_types()).count("resource.unshared") == 1


async def test_people_give_their_own_shares_back(service: Service, owner: Person, friend: Person) -> None:
    service.addresses.users["friend@example.com"] = friend.id
    made = await owner.create()
    await owner.call("ShareResource", name=made.name, user=friend.name, role=READER)
    await owner.call("ShareResource", name=made.name, email="friend@example.com", role=EDITOR)
    await friend.call("UnshareResource", name=made.name, email="Friend@example.com")
    assert await role_of(friend, made.name) == READER
    await owner.call("ShareResource", name=made.name, email="friend@example.com", role=EDITOR)
    await friend.call("UnshareResource", name=made.name, user="users/me")
    assert await role_of(friend, made.name) == 0
    assert not (await owner.call("ListShares", name=made.name)).shares


async def test_a_share_of_an_address_with_an_account_is_good_at_once(
    service: Service, owner: Person, friend: Person
) -> None:
    service.addresses.users["friend@example.com"] = friend.id
    made = await owner.create()
    shared = await owner.call("ShareResource", name=made.name, email="Friend@Example.com", role=READER)
    assert (shared.user, shared.email) == ("", "Friend@Example.com")
    assert await role_of(friend, made.name) == READER
    events = (await service.events())[1:]
    assert [(event.type, event.subject, event.email) for event in events] == [
        ("resource.shared", "", "Friend@Example.com"),
        ("resource.shares_claimed", friend.name, "Friend@Example.com"),
    ]


async def test_no_answer_tells_whether_an_address_has_an_account(
    service: Service, owner: Person, friend: Person
) -> None:
    service.addresses.users["known@example.com"] = friend.id
    made = await owner.create()
    for email in ("known@example.com", "nobody@example.com"):
        for role in (READER, EDITOR, EDITOR):
            shared = await owner.call("ShareResource", name=made.name, email=email, role=role)
            assert (shared.email, shared.user, shared.role) == (email, "", role)
    listed = (await owner.call("ListShares", name=made.name)).shares
    assert [(share.email, share.user, share.role) for share in listed] == [
        ("known@example.com", "", EDITOR),
        ("nobody@example.com", "", EDITOR),
    ]
    # Sharing with the user by id beside it makes no difference to the share of the address.
    await owner.call("ShareResource", name=made.name, user=friend.name, role=READER)
    assert [share.WhichOneof("grantee") for share in (await owner.call("ListShares", name=made.name)).shares] == [
        "email",
        "email",
        "user",
    ]
    assert await role_of(friend, made.name) == EDITOR
    await owner.call("UnshareResource", name=made.name, email="known@example.com")
    assert await role_of(friend, made.name) == READER


async def test_no_answer_tells_whether_a_user_exists_and_one_who_does_not_costs_nothing(
    service: Service, running: Replica, owner: Person, friend: Person
) -> None:
    nobody = running.person()
    service.addresses.unknown.add(nobody.id)
    made = await owner.create()
    for person in (friend, nobody):
        for role in (READER, EDITOR, EDITOR):
            shared = await owner.call("ShareResource", name=made.name, user=person.name, role=role)
            assert (shared.user, shared.email, shared.role) == (person.name, "", role)
    listed = (await owner.call("ListShares", name=made.name)).shares
    assert [(share.user, share.role) for share in listed] == [(friend.name, EDITOR), (nobody.name, EDITOR)]
    assert [event.subject for event in await service.events() if event.type == "resource.shared"] == [
        friend.name
    ] * 2 + [nobody.name] * 2
    assert (await role_of(friend, made.name), await role_of(nobody, made.name)) == (EDITOR, 0)

    await owner.call("UpdateResource", resource=Resource(name=made.name, content="b"))
    while (await running.changes.number()).more:
        pass
    heard = {row["user_id"] for row in await service.database.fetch("SELECT user_id FROM changes")}
    assert heard == {owner.id, friend.id}
    await owner.call("UnshareResource", name=made.name, user=nobody.name)


async def test_a_share_by_id_is_good_as_soon_as_user_knows_the_person(
    service: Service, running: Replica, owner: Person, friend: Person
) -> None:
    service.addresses.unknown.add(friend.id)
    made = await owner.create()
    await owner.call("ShareResource", name=made.name, user=friend.name, role=READER)
    assert await role_of(friend, made.name) == 0
    await running.claim(friend.id, "friend@example.com")
    assert await role_of(friend, made.name) == READER


@pytest.mark.parametrize("kind", ["email", "user"])
async def test_calls_about_somebody_take_equally_long(
    service: Service, running: Replica, owner: Person, friend: Person, kind: str
) -> None:
    stranger = running.person()
    service.addresses.users["known@example.com"] = friend.id
    service.addresses.unknown.add(stranger.id)
    made = await owner.create()
    loop = asyncio.get_running_loop()
    for name in ("known@example.com", "nobody@example.com") if kind == "email" else (friend.name, stranger.name):
        for method, fields in (
            ("ShareResource", {"role": READER}),
            ("ShareResource", {"role": READER}),
            ("UnshareResource", {}),
        ):
            started = loop.time()
            await owner.call(method, name=made.name, **{kind: name}, **fields)
            assert loop.time() - started >= sharing.EVEN_SECONDS


async def test_a_share_waits_for_its_address_to_be_verified(
    service: Service, running: Replica, owner: Person, friend: Person
) -> None:
    made = [await owner.create(f"{number}") for number in range(3)]
    for resource in made:
        await owner.call("ShareResource", name=resource.name, email="new@example.com", role=READER)
    assert await role_of(friend, made[0].name) == 0
    for _ in range(2):
        await running.claim(friend.id, "New@example.com")
    assert len((await friend.call("ListResources")).resources) == 3
    claimed = [event for event in await service.events() if event.type == "resource.shares_claimed"]
    assert {event.target for event in claimed} == {resource.name for resource in made}
    assert len(claimed) == 3
    stranger = running.person()
    await running.claim(stranger.id, "new@example.com")
    assert await role_of(stranger, made[0].name) == 0


async def test_sharing_does_not_need_user_and_catches_up_when_user_is_back(
    service: Service, running: Replica, owner: Person, friend: Person
) -> None:
    service.addresses.users["friend@example.com"] = friend.id
    service.addresses.away = True
    made = await owner.create()
    shared = await owner.call("ShareResource", name=made.name, email="friend@example.com", role=READER)
    assert shared.email == "friend@example.com"
    assert await role_of(friend, made.name) == 0

    service.clock.moved = timedelta(minutes=1)
    looking = asyncio.create_task(running.claims.run())
    try:
        service.addresses.away = False

        async def found() -> bool:
            return await role_of(friend, made.name) == READER

        await until(found)
    finally:
        looking.cancel()
    assert await service.database.fetchval("SELECT count(*) FROM shares WHERE lookup_time IS NOT NULL") == 0


async def test_an_address_that_user_refuses_does_not_fail_the_share(service: Service, owner: Person) -> None:
    service.addresses.refuses = Internal(Reason.INTERNAL, "no")
    made = await owner.create()
    assert (await owner.call("ShareResource", name=made.name, email="x@example.com", role=READER)).role == READER


async def test_a_claim_and_a_deletion_at_once_both_end(running: Replica, owner: Person, friend: Person) -> None:
    for _ in range(5):
        made = await owner.create()
        await owner.call("ShareResource", name=made.name, email="new@example.com", role=READER)
        await asyncio.gather(running.claim(friend.id, "new@example.com"), owner.call("DeleteResource", name=made.name))
    assert not (await friend.call("ListResources")).resources


async def test_shares_are_listed_oldest_first_in_pages(owner: Person) -> None:
    made = await owner.create()
    emails = [f"{number}@example.com" for number in range(5)]
    for email in emails:
        await owner.call("ShareResource", name=made.name, email=email, role=READER)
    seen, token = [], ""
    while True:
        page = await owner.call("ListShares", name=made.name, page_size=2, page_token=token)
        seen += [share.email for share in page.shares]
        assert len(page.shares) <= 2
        if not (token := page.next_page_token):
            break
    assert seen == emails


async def test_a_resource_has_a_bounded_number_of_shares(service: Service, owner: Person) -> None:
    made = await owner.create()
    await service.database.execute(
        """
        INSERT INTO shares (id, resource_id, grantee, holder_id, role, create_time)
        SELECT holder, $1, 'users/' || holder, holder, 1, now() FROM (SELECT gen_random_uuid() AS holder
            FROM generate_series(1, $2)) people
        """,
        made.name.removeprefix("resources/"),
        MAX_SHARES,
    )
    with refused(ResourceExhausted, Reason.QUOTA_EXCEEDED):
        await owner.call("ShareResource", name=made.name, user=f"users/{uuid4()}", role=READER)
    await owner.call("UpdateResource", resource=Resource(name=made.name, content="b"))
    await owner.call("DeleteResource", name=made.name)


@pytest.mark.parametrize("method", ["UpdateResource", "ShareResource"])
async def test_an_editor_who_lost_access_while_waiting_changes_nothing(
    service: Service, owner: Person, friend: Person, method: str
) -> None:
    made = await owner.create()
    await owner.call("ShareResource", name=made.name, user=friend.name, role=EDITOR)
    fields = (
        {"resource": Resource(name=made.name, content="b")}
        if method == "UpdateResource"
        else {"name": made.name, "user": owner.name, "role": 1}
    )

    async def blocked() -> bool:
        locks = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return bool(await service.database.fetchval(locks))

    async with service.database.transaction() as tx:
        await tx.execute("SELECT FROM resources FOR UPDATE")
        waiting = asyncio.create_task(friend.call(method, **fields))
        await until(blocked)
        await tx.execute("DELETE FROM shares")
    with refused(NotFound, Reason.RESOURCE_NOT_FOUND):
        await waiting
