"""QueryEvents and WatchEvents over the projection, behind the real interceptor."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from authmesh.audit.v1.audit_service_pb2 import QueryEventsRequest, Standing, WatchEventsRequest, WatchEventsResponse
from authmesh.audit.v1.audit_service_pb2_grpc import AuditServiceStub, add_AuditServiceServicer_to_server

from mesh.errors import InvalidArgument, PermissionDenied
from services.audit.pipeline.envelope import read
from services.audit.reading.projection import Projection
from services.audit.reading.projector import Projector
from services.audit.reading.service import AuditService
from services.audit.reading.watch import Watch
from services.audit.trail.objects import lay_out
from tests.conftest import OpenDatabase
from tests.kit.envelopes import NOON, envelope, event
from tests.kit.serving import TrustedCaller, served
from tests.kit.trail import chain_hash, chained, statement_of, tombstone_of, woven

HEARTBEAT = timedelta(milliseconds=300)


@dataclass
class Reading:
    """The service, and the way events come to it."""

    stub: AuditServiceStub
    caller: TrustedCaller
    follower: Projector

    async def store(self, *events: AuditEvent) -> None:
        for item in lay_out(read(envelope(sent)) for sent in events):
            await self.follower.project(item.key, item.body)

    async def numbers(self, **request: object) -> list[int]:
        return [found.sequence for found in (await self.stub.QueryEvents(QueryEventsRequest(**request))).events]  # type: ignore[arg-type]


@pytest.fixture
async def reading(open_database: OpenDatabase) -> AsyncIterator[Reading]:
    projection = Projection(await open_database("services.audit"))
    follower, caller = Projector(projection), TrustedCaller()
    caller.scopes = frozenset({"admin:audit"})
    service = AuditService(projection, Watch(projection, follower, HEARTBEAT))
    async with served([(add_AuditServiceServicer_to_server, service)], caller) as channel:
        yield Reading(AuditServiceStub(channel), caller, follower)


async def test_events_are_listed_newest_first_in_pages(reading: Reading) -> None:
    await reading.store(*chained(1, 120))
    seen: list[int] = []
    token = ""
    while True:
        page = await reading.stub.QueryEvents(QueryEventsRequest(page_size=50, page_token=token))
        seen += [found.sequence for found in page.events]
        if not (token := page.next_page_token):
            break
        # What comes meanwhile is newer, and moves nothing.
        await reading.store(event(1, source="token", at=NOON + timedelta(hours=1)))
    assert seen == list(range(120, 0, -1))
    assert len(await reading.numbers()) == 50


async def test_an_event_comes_back_as_it_was_recorded(reading: Reading) -> None:
    sent = event(
        1, actor="users/ada", subject="users/bob", session="s", detail={"a": "b"}, sealed=b"x" * 40, reason="NO"
    )
    await reading.store(sent)
    assert (await reading.stub.QueryEvents(QueryEventsRequest())).events == [sent]


async def test_filters_must_all_match(reading: Reading) -> None:
    other_type = event(4, actor="users/ada", at=NOON + timedelta(minutes=4))
    other_type.type = "token.refreshed"
    await reading.store(
        event(1, actor="users/ada", subject="users/ada"),
        event(2, actor="users/ada", subject="users/bob", at=NOON + timedelta(minutes=2)),
        event(3, actor="users/bob", subject="users/bob", at=NOON + timedelta(minutes=3)),
        other_type,
    )
    assert await reading.numbers(actor="users/ada") == [4, 2, 1]
    assert await reading.numbers(subject="users/bob") == [3, 2]
    assert await reading.numbers(actor="users/ada", subject="users/bob") == [2]
    assert await reading.numbers(type="token.refreshed") == [4]
    assert await reading.numbers(start_time=NOON + timedelta(minutes=2), end_time=NOON + timedelta(minutes=4)) == [3, 2]
    assert await reading.numbers(actor="users/nobody") == []


async def test_what_is_delivered_again_is_there_once(reading: Reading) -> None:
    events = chained(1, 10)
    await reading.store(*events)
    await reading.store(*events[2:7])
    await reading.store(*events)
    assert await reading.numbers() == list(range(10, 0, -1))


@pytest.mark.parametrize(
    "request_",
    [
        QueryEventsRequest(page_token="made-up"),
        QueryEventsRequest(type="no.such"),
        QueryEventsRequest(page_size=201),
        QueryEventsRequest(actor="users/\x00"),
        QueryEventsRequest(subject="\x00"),
        QueryEventsRequest(start_time={"seconds": 10**15}),  # type: ignore[arg-type]
    ],
)
async def test_a_bad_question_is_refused(reading: Reading, request_: QueryEventsRequest) -> None:
    with pytest.raises(InvalidArgument):
        await reading.stub.QueryEvents(request_)


async def test_a_page_token_is_good_for_its_filters_only(reading: Reading) -> None:
    await reading.store(*chained(1, 3))
    page = await reading.stub.QueryEvents(QueryEventsRequest(page_size=1))
    with pytest.raises(InvalidArgument):
        await reading.stub.QueryEvents(
            QueryEventsRequest(page_size=1, page_token=page.next_page_token, actor="users/ada")
        )


async def test_without_the_scope_nothing_is_told(reading: Reading) -> None:
    reading.caller.scopes = frozenset({"resource:read"})
    with pytest.raises(PermissionDenied):
        await reading.stub.QueryEvents(QueryEventsRequest())
    with pytest.raises(PermissionDenied):
        await anext(aiter(reading.stub.WatchEvents(WatchEventsRequest())))


async def test_a_watch_tells_what_is_recorded_and_goes_on_where_it_stopped(reading: Reading) -> None:
    events = chained(1, 8)
    await reading.store(*events[:2])
    stream = reading.stub.WatchEvents(WatchEventsRequest())
    watch = aiter(stream)
    first: WatchEventsResponse = await anext(watch)
    assert not first.HasField("event")
    started = asyncio.get_running_loop().time()
    await reading.store(*events[2:5])
    got = [message for _ in range(3) if (message := await anext(watch)).HasField("event")]
    assert asyncio.get_running_loop().time() - started < 1
    assert [message.event.sequence for message in got] == [3, 4, 5]
    assert not (await anext(watch)).HasField("event")
    stream.cancel()
    await reading.store(*events[5:])
    again = aiter(reading.stub.WatchEvents(WatchEventsRequest(resume_token=got[1].resume_token)))
    assert [(await anext(again)).event.sequence for _ in range(4)] == [5, 6, 7, 8]


async def test_a_watch_of_one_type_tells_that_type(reading: Reading) -> None:
    watch = aiter(reading.stub.WatchEvents(WatchEventsRequest(type="token.refreshed")))
    await anext(watch)
    other = event(2)
    other.type = "token.refreshed"
    await reading.store(event(1), other)
    assert (await anext(watch)).event.sequence == 2


async def test_a_made_up_resume_token_is_refused(reading: Reading) -> None:
    with pytest.raises(InvalidArgument):
        await anext(aiter(reading.stub.WatchEvents(WatchEventsRequest(resume_token="AAAA"))))


async def standings(reading: Reading, **request: object) -> list[tuple[int, str, str]]:
    """Number, actor and standing of each event, oldest first."""
    page = await reading.stub.QueryEvents(QueryEventsRequest(**request))  # type: ignore[arg-type]
    names = [Standing.Name(standing).removeprefix("STANDING_") for standing in page.standings]
    return [(found.sequence, found.actor, name) for found, name in zip(page.events, names, strict=True)][::-1]


async def test_every_event_comes_with_its_standing(reading: Reading) -> None:
    events = chained(1, 4)
    await reading.store(*events[:2], events[3])
    assert await standings(reading) == [(1, "", "CHAINED"), (2, "", "CHAINED"), (4, "", "PENDING")]
    await reading.store(events[2])
    assert {standing for _, _, standing in await standings(reading)} == {"CHAINED"}


@pytest.mark.parametrize("forged_first", [True, False])
async def test_a_forged_event_is_left_out_and_marked_where_it_is_asked_for(
    reading: Reading, forged_first: bool
) -> None:
    events = chained(1, 5)
    forged = chained(3, 3, previous=events[2].previous_hash, actor="users/eve")
    await reading.store(*events[:2])
    await reading.store(*(forged if forged_first else events[2:]))
    await reading.store(*(events[2:] if forged_first else forged))
    assert await reading.numbers() == [5, 4, 3, 2, 1]
    assert {standing for _, _, standing in await standings(reading)} == {"CHAINED"}
    assert (3, "users/eve", "OFF_CHAIN") in await standings(reading, show_off_chain=True)
    assert await standings(reading, show_off_chain=True, actor="users/eve") == [(3, "users/eve", "OFF_CHAIN")]


@pytest.mark.parametrize("forged_first", [True, False])
async def test_of_two_events_at_the_end_neither_is_believed_before_the_next_one_comes(
    reading: Reading, forged_first: bool
) -> None:
    events = chained(1, 4)
    forged = chained(3, 3, previous=events[2].previous_hash, actor="users/eve")
    await reading.store(*events[:2])
    for stored in (forged, events[2:3]) if forged_first else (events[2:3], forged):
        await reading.store(*stored)
    assert sorted(await standings(reading))[2:] == [(3, "", "PENDING"), (3, "users/eve", "PENDING")]
    await reading.store(events[3])
    assert await standings(reading) == [(1, "", "CHAINED"), (2, "", "CHAINED"), (3, "", "CHAINED"), (4, "", "CHAINED")]


async def test_all_of_a_forged_branch_is_off_the_chain_though_it_came_first(reading: Reading) -> None:
    events = chained(1, 40)
    branch = chained(35, 37, previous=events[34].previous_hash, actor="users/eve")
    await reading.store(*events[:34])
    await reading.store(*branch)
    await reading.store(*events[34:])
    assert await reading.numbers() == list(range(40, 0, -1))
    off = await standings(reading, show_off_chain=True, actor="users/eve")
    assert off == [(number, "users/eve", "OFF_CHAIN") for number in (35, 36, 37)]


async def test_a_tombstone_is_believed_when_its_source_states_it(reading: Reading) -> None:
    events = chained(1, 4)
    stone = tombstone_of(events[1])
    await reading.store(events[0], stone, *events[2:])
    assert [standing for _, _, standing in await standings(reading)] == ["CHAINED", "PENDING", "CHAINED", "CHAINED"]
    await reading.store(statement_of(stone, 5, chain_hash(events[3])))
    assert {standing for _, _, standing in await standings(reading)} == {"CHAINED"}


async def test_a_watch_marks_what_it_tells_and_leaves_out_what_is_known_as_forged(reading: Reading) -> None:
    events = chained(1, 5)
    await reading.store(*events)
    both = [aiter(reading.stub.WatchEvents(WatchEventsRequest(show_off_chain=show))) for show in (True, False)]
    for watch in both:
        assert (await anext(watch)).standing == Standing.STANDING_UNSPECIFIED
    await reading.store(*chained(3, 3, previous=events[2].previous_hash, actor="users/eve"))
    await reading.store(*chained(6, 6, previous=chain_hash(events[4])))

    async def told(watch: AsyncIterator[WatchEventsResponse]) -> WatchEventsResponse:
        while not (message := await anext(watch)).HasField("event"):
            pass
        return message

    message = await told(both[0])
    assert (message.event.actor, message.standing) == ("users/eve", Standing.STANDING_OFF_CHAIN)
    for watch in both:
        message = await told(watch)
        assert (message.event.sequence, message.standing) == (6, Standing.STANDING_CHAINED)


@pytest.mark.parametrize("seed", range(8))
async def test_of_any_forks_what_is_forged_is_off_the_chain_in_whatever_order_it_came(
    reading: Reading, seed: int
) -> None:
    generator = random.Random(seed)
    true, forged = woven(generator, 30)
    # The true chain goes on.
    true += chained(31, 60, previous=chain_hash(true[-1]))
    delivered = sorted(
        true + forged, key=lambda sent: sent.sequence + generator.random() * generator.choice([0, 3, 15])
    )
    for start in range(0, len(delivered), 7):
        await reading.store(*delivered[start : start + 7])
    wanted = [(sent.sequence, sent.actor, "CHAINED") for sent in true] + [
        (sent.sequence, sent.actor, "OFF_CHAIN") for sent in forged
    ]
    assert sorted(await standings(reading, show_off_chain=True, page_size=200)) == sorted(wanted)
