"""Creating, reading, listing, changing and deleting, through the contract."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from authmesh.audit.v1.audit_event_pb2 import OUTCOME_FAILURE
from authmesh.resource.v1 import resource_service_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from mesh.errors import Aborted, InvalidArgument, NotFound, PermissionDenied, Reason, ResourceExhausted
from mesh.ids import uuid7
from mesh.tokens.denials import EACH
from services.resource.store import PAGE_BYTES
from tests.integration.services.resource.conftest import QUOTA, Person, Replica, Service
from tests.kit.change_expectations import refused, until

Resource = resource_service_pb2.Resource


async def test_what_was_created_is_read_back_whole(service: Service, owner: Person) -> None:
    made = await owner.create("plan", "é\n😀")
    assert (made.display_name, made.content, made.owner, made.role) == (
        "plan",
        "é\n😀",
        owner.name,
        resource_service_pb2.ROLE_OWNER,
    )
    assert made.create_time == made.update_time
    assert await owner.call("GetResource", name=made.name) == made
    assert await owner.call("GetResource", name=made.name.upper().replace("RESOURCES", "resources")) == made
    [event] = await service.events()
    assert (event.type, event.actor, event.target, event.source) == (
        "resource.created",
        owner.name,
        made.name,
        "resource",
    )


async def test_a_stranger_learns_nothing_and_is_written_down(service: Service, owner: Person, friend: Person) -> None:
    made = await owner.create()
    etag = made.etag
    for method, fields in (
        ("GetResource", {"name": made.name}),
        ("UpdateResource", {"resource": Resource(name=made.name, content="b", etag="wrong")}),
        ("DeleteResource", {"name": made.name, "etag": "wrong"}),
        ("ShareResource", {"name": made.name, "user": f"users/{uuid4()}", "role": 1}),
        ("ListShares", {"name": made.name}),
        ("UnshareResource", {"name": made.name, "user": "users/me"}),
    ):
        with refused(NotFound, Reason.RESOURCE_NOT_FOUND):
            await friend.call(method, **fields)
        denied = (await service.events())[-1]
        assert (denied.type, denied.outcome, denied.reason) == (
            "resource.access_denied",
            OUTCOME_FAILURE,
            "RESOURCE_NOT_FOUND",
        )
        assert (denied.actor, denied.target) == (friend.name, made.name)
    assert (await service.event_types()).count("resource.access_denied") == 6
    assert (await owner.call("GetResource", name=made.name)).etag == etag


async def test_a_stranger_in_a_loop_fills_no_table(service: Service, owner: Person, friend: Person) -> None:
    made = await owner.create()
    for _ in range(50):
        with refused(NotFound, Reason.RESOURCE_NOT_FOUND):
            await friend.call("GetResource", name=made.name)
    assert (await service.event_types()).count("resource.access_denied") == EACH


async def test_what_does_not_exist_is_not_found_and_not_written_down(service: Service, owner: Person) -> None:
    with refused(NotFound, Reason.RESOURCE_NOT_FOUND):
        await owner.call("GetResource", name=f"resources/{uuid4()}")
    assert await service.event_types() == []


async def test_an_update_changes_what_the_mask_names(service: Service, owner: Person) -> None:
    made = await owner.create("one", "a")
    given = Resource(name=made.name, display_name="two", content="b")
    changed = await owner.call("UpdateResource", resource=given, update_mask=FieldMask(paths=["content"]))
    assert (changed.display_name, changed.content) == ("one", "b")
    assert changed.etag != made.etag
    assert changed.update_time.ToNanoseconds() > made.update_time.ToNanoseconds()
    emptied = await owner.call(
        "UpdateResource", resource=Resource(name=made.name), update_mask=FieldMask(paths=["content"])
    )
    assert emptied.content == ""
    unmasked = await owner.call("UpdateResource", resource=Resource(name=made.name, display_name="three"))
    assert (unmasked.display_name, unmasked.content) == ("three", "")
    assert await owner.call("GetResource", name=made.name) == unmasked
    events = await service.events()
    assert [(event.type, event.detail["fields"]) for event in events[1:]] == [
        ("resource.updated", "content"),
        ("resource.updated", "content"),
        ("resource.updated", "display_name"),
    ]


async def test_an_update_that_changes_nothing_writes_nothing(service: Service, owner: Person) -> None:
    made = await owner.create("one", "a")
    assert await owner.call("UpdateResource", resource=Resource(name=made.name, display_name="one")) == made
    assert await service.event_types() == ["resource.created"]


@pytest.mark.parametrize("path", ["nonsense", "display_name.x", "resource.content", ""])
async def test_a_path_that_cannot_be_changed_is_refused(owner: Person, path: str) -> None:
    made = await owner.create()
    with refused(InvalidArgument, Reason.FIELD_INVALID, "update_mask"):
        await owner.call(
            "UpdateResource",
            resource=Resource(name=made.name, content="b"),
            update_mask=FieldMask(paths=["content", path]),
        )
    assert await owner.call("GetResource", name=made.name) == made


async def test_a_stale_etag_changes_and_deletes_nothing(owner: Person) -> None:
    made = await owner.create()
    changed = await owner.call("UpdateResource", resource=Resource(name=made.name, content="b", etag=made.etag))
    with refused(Aborted, Reason.ETAG_MISMATCH):
        await owner.call("UpdateResource", resource=Resource(name=made.name, content="c", etag=made.etag))
    with refused(Aborted, Reason.ETAG_MISMATCH):
        await owner.call("DeleteResource", name=made.name, etag=made.etag)
    assert await owner.call("GetResource", name=made.name) == changed
    await owner.call("DeleteResource", name=made.name, etag=changed.etag)


async def test_of_two_updates_of_one_state_one_wins(owner: Person) -> None:
    made = await owner.create()
    outcomes = await asyncio.gather(
        *(
            owner.call("UpdateResource", resource=Resource(name=made.name, content=f"{number}", etag=made.etag))
            for number in range(8)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Resource) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Aborted) for outcome in outcomes) == 7


async def test_a_deleted_resource_is_gone_with_its_shares(service: Service, owner: Person, friend: Person) -> None:
    made = await owner.create()
    await owner.call("ShareResource", name=made.name, user=friend.name, role=2)
    with refused(PermissionDenied, Reason.ROLE_MISSING):
        await friend.call("DeleteResource", name=made.name)
    await owner.call("DeleteResource", name=made.name)
    for person in (owner, friend):
        with refused(NotFound, Reason.RESOURCE_NOT_FOUND):
            await person.call("GetResource", name=made.name)
    with refused(NotFound, Reason.RESOURCE_NOT_FOUND):
        await owner.call("DeleteResource", name=made.name)
    assert (await service.event_types())[-1] == "resource.deleted"
    assert not (await friend.call("ListResources")).resources

    async def gone() -> bool:
        return not await service.database.fetchval("SELECT count(*) FROM shares")

    await until(gone)


async def test_a_repeated_request_id_answers_what_it_answered_first(
    service: Service, owner: Person, friend: Person
) -> None:
    request_id = str(uuid4())
    made = await owner.create("plan", "a", request_id)
    assert await owner.create("plan", "a", request_id) == made
    with refused(InvalidArgument, Reason.REQUEST_ID_REUSED, "request_id"):
        await owner.create("plan", "b", request_id)
    with refused(InvalidArgument, Reason.REQUEST_ID_REUSED, "request_id"):
        await owner.create("plana", "", request_id)
    assert (await friend.create("plan", "a", request_id)).name != made.name
    await owner.call("DeleteResource", name=made.name)
    assert await owner.create("plan", "a", request_id) == made
    assert (await service.event_types()).count("resource.created") == 2


async def test_a_request_id_is_forgotten_after_a_day(service: Service, running: Replica, owner: Person) -> None:
    request_id = str(uuid4())
    made = await owner.create("plan", "a", request_id)
    service.clock.moved = timedelta(hours=24, seconds=1)
    other = await owner.create("plan", "b", request_id)
    assert other.name != made.name
    service.clock.moved *= 2
    await running.retention.step()
    assert await service.database.fetchval("SELECT count(*) FROM creations") == 0


async def test_many_attempts_at_once_with_one_request_id_make_one_resource(service: Service, owner: Person) -> None:
    request_id = str(uuid4())
    made = await asyncio.gather(*(owner.create("plan", "a", request_id) for _ in range(10)))
    assert len({resource.name for resource in made}) == 1
    assert await service.database.fetchval("SELECT count(*) FROM resources") == 1


async def test_a_list_shows_what_is_owned_and_shared_newest_first_in_pages(owner: Person, friend: Person) -> None:
    names = []
    for number in range(7):
        maker = owner if number % 2 else friend
        made = await maker.create(f"{number}")
        if maker is friend:
            await friend.call("ShareResource", name=made.name, user=owner.name, role=1)
        names.append(f"{number}")
        await asyncio.sleep(0.002)  # ids sort by millisecond
    await friend.create("not shared")
    seen, token, pages = [], "", 0
    while True:
        page = await owner.call("ListResources", page_size=3, page_token=token)
        seen += [(resource.display_name, resource.role) for resource in page.resources]
        pages, token = pages + 1, page.next_page_token
        if not token:
            break
    assert pages == 3
    assert seen == [(name, 3 if int(name) % 2 else 1) for name in reversed(names)]
    assert len((await owner.call("ListResources")).resources) == 7


async def test_a_page_is_no_larger_than_a_message_may_be(owner: Person) -> None:
    content = "x" * 65_536
    for _ in range(PAGE_BYTES // 65_536 + 3):
        await owner.create(content=content)
    first = await owner.call("ListResources", page_size=200)
    assert len(first.resources) == PAGE_BYTES // 65_536
    assert len((await owner.call("ListResources", page_size=200, page_token=first.next_page_token)).resources) == 3


async def test_a_page_token_is_good_for_its_list_and_its_caller_only(owner: Person, friend: Person) -> None:
    made = [await owner.create() for _ in range(2)]
    for person in (friend, owner):
        await owner.call("ShareResource", name=made[0].name, email=f"{person.subject}@example.com", role=1)
    of_resources = (await owner.call("ListResources", page_size=1)).next_page_token
    of_shares = (await owner.call("ListShares", name=made[0].name, page_size=1)).next_page_token
    assert of_resources
    assert of_shares
    for person, method, fields in (
        (friend, "ListResources", {"page_token": of_resources}),
        (owner, "ListResources", {"page_token": of_shares}),
        (owner, "ListResources", {"page_token": "garbage"}),
        (owner, "ListResources", {"page_token": of_resources[:-4]}),
        (owner, "ListResources", {"page_token": "é"}),
        (owner, "ListShares", {"name": made[0].name, "page_token": of_resources}),
        (owner, "ListShares", {"name": made[1].name, "page_token": of_shares}),
    ):
        with refused(InvalidArgument, Reason.FIELD_INVALID, "page_token"):
            await person.call(method, **fields)


async def test_a_character_that_the_database_cannot_hold_is_refused_by_field(owner: Person) -> None:
    with refused(InvalidArgument, Reason.FIELD_INVALID, "resource.content"):
        await owner.create(content="a\x00b")
    made = await owner.create()
    with refused(InvalidArgument, Reason.FIELD_INVALID, "resource.display_name"):
        await owner.call("UpdateResource", resource=Resource(name=made.name, display_name="\x00"))


async def test_bad_names_and_ids_are_refused_by_field(owner: Person) -> None:
    for method, fields, field in (
        ("GetResource", {"name": "resources/nope"}, "name"),
        ("GetResource", {"name": f"resources/{uuid7()}\n"}, "name"),
        ("CreateResource", {"resource": Resource(), "request_id": "nope"}, "request_id"),
        ("CreateResource", {}, "resource"),
        ("ListResources", {"page_size": 201}, "page_size"),
        ("UpdateResource", {"resource": Resource(name="resources/x")}, "resource"),
        ("ShareResource", {"name": f"resources/{uuid7()}", "user": "users/me", "role": 1}, "user"),
        ("ShareResource", {"name": f"resources/{uuid7()}", "email": "a@example.com", "role": 3}, "role"),
    ):
        with refused(InvalidArgument, Reason.FIELD_INVALID, field):
            await owner.call(method, **fields)


async def test_a_client_that_acts_for_itself_has_no_resources(running: Replica) -> None:
    with refused(PermissionDenied, Reason.CALLER_NOT_ALLOWED):
        await running.person("robot").call("ListResources")


async def test_one_person_owns_a_bounded_number_of_resources(service: Service, owner: Person, friend: Person) -> None:
    made = [await owner.create() for _ in range(QUOTA)]
    request_id = str(uuid4())
    with refused(ResourceExhausted, Reason.QUOTA_EXCEEDED):
        await owner.create(request_id=request_id)
    await friend.create()
    await owner.call("DeleteResource", name=made[0].name)
    # What was refused left nothing, its request id included; and of several at once one gets the place.
    results = await asyncio.gather(
        *(owner.create(request_id=request_id) for _ in range(3)), owner.create(), return_exceptions=True
    )
    assert {type(result) for result in results} == {Resource, ResourceExhausted}
    assert await service.database.fetchval("SELECT count(*) FROM resources WHERE owner_id = $1", owner.id) == QUOTA
