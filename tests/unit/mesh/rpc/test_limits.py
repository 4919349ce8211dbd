"""What one caller takes is bounded, and nobody else is the worse for it."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
from authmesh.resource.v1 import resource_service_pb2
from grpc import aio

from mesh.contract import READING, Rate
from mesh.rpc.admission import Admission
from mesh.rpc.call import Call, Stage
from mesh.rpc.errors import error_table
from mesh.rpc.limits import CALLERS_REMEMBERED, NEWCOMERS, Buckets, Limits
from mesh.tokens.claims import Claims
from tests.kit.calls import (
    CHANGE,
    CONTRACT,
    GET,
    JWKS,
    LOOKUP,
    REQUEST,
    WATCH,
    Changes,
    Directory,
    Keys,
    Refusal,
    around,
    found,
    refusal,
    serving,
    unary,
)
from tests.kit.gate import Gate

RATE = CONTRACT.rpcs[GET].rate or READING
STREAMS = CONTRACT.rpcs[WATCH].streams


class Monotonic:
    """Time that tests move."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def stand_in_for_tokens(call: Call) -> AsyncIterator[None]:
    """Believes the subject in the metadata; one who begins with `client` acts for itself."""
    for subject in call.values("x-subject"):
        session = "" if str(subject).startswith("client") else "session"
        call.claims = Claims(str(subject), session, "demo", frozenset(), frozenset(), "jti", 0, 0, 0, (), "kid")
    yield


def stages(limits: Limits, limit: int = 200) -> Sequence[Stage]:
    return [error_table, Admission(limit), around(stand_in_for_tokens), limits]


async def get(channel: aio.Channel, subject: str) -> bytes:
    return await unary(channel, GET, b"", metadata=(("x-subject", subject),))


def watch(channel: aio.Channel, subject: str) -> Any:
    call: Any = channel.unary_stream(WATCH, request_serializer=bytes, response_deserializer=bytes)
    return call(b"", metadata=(("x-subject", subject),), timeout=30)


async def opened(channel: aio.Channel, subject: str) -> Any:
    call = watch(channel, subject)
    assert await call.read() == CHANGE.SerializeToString()
    return call


async def ended(call: Any) -> Refusal:
    return await refusal(call.read())


async def test_a_caller_who_calls_more_often_than_the_contract_allows_waits_and_nobody_else_does() -> None:
    now = Monotonic()
    async with serving(Changes(Gate().watch), stages=stages(Limits(200, monotonic=now))) as channel:
        for _ in range(RATE.requests):
            await get(channel, "ada")
        limited = await refusal(get(channel, "ada"))
        assert (limited.status, limited.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert limited.retry_seconds is not None
        await get(channel, "grace")
        now.now += limited.retry_seconds
        await get(channel, "ada")
        assert (await refusal(get(channel, "ada"))).reason == "RATE_LIMITED"
        now.now += RATE.seconds
        for _ in range(RATE.requests):
            await get(channel, "ada")
        assert (await refusal(get(channel, "ada"))).reason == "RATE_LIMITED"


async def test_a_client_of_its_own_and_a_person_of_the_same_id_are_two_callers() -> None:
    limits = Limits(200)
    async with serving(Changes(Gate().watch), stages=stages(limits)) as channel:
        await get(channel, "client")
        await get(channel, "ada")
    assert {tuple(buckets._full_at) for buckets in limits._buckets.values()} == {("clients/client", "users/ada")}


async def test_a_factor_multiplies_the_rate() -> None:
    async with serving(
        Changes(Gate().watch), stages=stages(Limits(200, factor=0.01, monotonic=Monotonic()))
    ) as channel:
        for _ in range(RATE.requests // 100):
            await get(channel, "ada")
        assert (await refusal(get(channel, "ada"))).reason == "RATE_LIMITED"


async def test_one_person_never_has_all_calls_in_flight_and_a_client_has_more_than_a_person() -> None:
    gate = Gate()
    async with (
        serving(Changes(gate.watch, gate.lookup), stages=stages(Limits(24), 24)) as channel,
        AsyncExitStack() as calls,
    ):

        async def flood(subject: str, number: int) -> int:
            before = gate.waiting
            tasks = [asyncio.ensure_future(get(channel, subject)) for _ in range(number)]
            for task in tasks:
                calls.callback(task.cancel)
            while gate.waiting - before + sum(task.done() for task in tasks) < number:
                await asyncio.sleep(0.01)
            assert {(await refusal(task)).reason for task in tasks if task.done()} <= {"OVERLOADED"}
            return gate.waiting - before

        assert await flood("ada", 24) == 4
        assert await flood("client", 24) == 7
        assert await flood("grace", 1) == 1


async def test_a_caller_opens_no_more_streams_of_a_method_than_the_contract_says() -> None:
    async with serving(Changes(Gate().watch), stages=stages(Limits(200))) as channel:
        streams = [await opened(channel, "ada") for _ in range(STREAMS)]
        refused = await ended(watch(channel, "ada"))
        assert (refused.status, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert refused.retry_seconds
        streams.pop().cancel()
        async with asyncio.timeout(5):
            while (await watch(channel, "ada").read()) != CHANGE.SerializeToString():
                await asyncio.sleep(0.01)
        await opened(channel, "grace")


async def test_when_all_places_are_taken_a_newcomer_gets_the_oldest_stream_of_who_has_the_most() -> None:
    limits = Limits(6)
    async with serving(Changes(Gate().watch), stages=stages(limits, 6)) as channel:
        small = await opened(channel, "grace")
        mine = [await opened(channel, "ada") for _ in range(5)]
        for newcomer in ("edsger", "barbara"):
            await opened(channel, newcomer)
        for number in range(2):
            lost = await ended(mine[number])
            assert (lost.status, lost.reason, lost.retry_seconds) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "OVERLOADED",
                10,
            )
        # Three, one, one, one: one more for somebody who has one takes nothing from the fair.
        await opened(channel, "grace")
        assert (await ended(mine[2])).reason == "OVERLOADED"
        assert (await ended(watch(channel, "ada"))).reason == "OVERLOADED"
        assert {caller: len(streams) for caller, streams in limits._streams._held.items()} == {
            "users/grace": 2,
            "users/ada": 2,
            "users/edsger": 1,
            "users/barbara": 1,
        }
        assert not small.done()


async def test_ten_accounts_do_not_close_a_stream_for_all() -> None:
    async with serving(Changes(Gate().watch), stages=stages(Limits(50), 50)) as channel:
        for account in range(10):
            for _ in range(5):
                await opened(channel, f"account{account}")
        for newcomer in range(20):
            await opened(channel, f"newcomer{newcomer}")


async def test_when_everybody_has_one_stream_there_is_no_place() -> None:
    async with serving(Changes(Gate().watch), stages=stages(Limits(3), 3)) as channel:
        for caller in ("ada", "grace", "edsger"):
            await opened(channel, caller)
        assert (await ended(watch(channel, "barbara"))).reason == "OVERLOADED"


async def test_all_streams_of_one_caller_are_sent_a_bounded_number_of_bytes_and_another_one_does_not_wait() -> None:
    sent = 0

    async def much() -> AsyncIterator[Any]:
        nonlocal sent
        while True:
            sent += 1
            yield resource_service_pb2.WatchResourcesResponse(resume_token="x" * 256 * 1024)

    async with serving(Changes(much), stages=stages(Limits(200))) as channel:
        began = time.monotonic()
        streams = [watch(channel, "ada") for _ in range(4)]
        readers = [asyncio.ensure_future(read_all(call)) for call in streams]
        await asyncio.sleep(1)
        other = watch(channel, "grace")
        assert await asyncio.wait_for(other.read(), 0.5)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        # What a second brings, as much that was there, and one message more of each stream.
        assert sent <= 8 * (time.monotonic() - began) + 8 + len(streams) + 10


async def read_all(call: Any) -> None:
    while await call.read():
        pass


async def test_what_has_no_token_is_not_limited_here() -> None:
    made = stages(Limits(200, factor=0.001))
    async with serving(Keys(found), Directory(found), stages=made) as channel:
        for path in (JWKS, LOOKUP):
            for _ in range(20):
                await unary(channel, path, b"" if path == JWKS else REQUEST)


def test_a_bucket_holds_what_the_rate_says_and_fills_evenly() -> None:
    buckets = Buckets(Rate(4, 8))
    assert [buckets.take("a", 0) for _ in range(5)] == [0, 0, 0, 0, 2]
    assert [buckets.take("a", 2), buckets.take("a", 2)] == [0, 2]
    assert [buckets.take("a", 100) for _ in range(5)] == [0, 0, 0, 0, 2]


def test_who_may_owe_waits_for_what_they_took() -> None:
    buckets = Buckets(Rate(4, 8))
    assert [buckets.take("a", 0, 3, owing=True), buckets.take("a", 0, 3, owing=True)] == [0, 4]
    assert buckets.take("a", 0) == 6


def test_buckets_that_are_full_again_are_forgotten() -> None:
    buckets = Buckets(Rate(10, 10))
    for number in range(100_000):
        assert buckets.take(f"{number}", number / 100) == 0
    assert len(buckets) < 200


def test_nobody_has_their_bucket_dropped_by_calling_under_many_names() -> None:
    buckets = Buckets(Rate(2, 60), remembered=100)
    assert [buckets.take("mine", 0) for _ in range(3)] == [0, 0, 30]
    for number in range(10_000):
        buckets.take(f"{number}", 1)
    assert buckets.take("mine", 1) == 29
    assert len(buckets) == 101


def test_who_finds_no_bucket_shares_one_and_that_is_bounded_too() -> None:
    buckets = Buckets(Rate(2, 60), remembered=100)
    for number in range(100):
        assert buckets.take(f"{number}", 0) == 0
    assert sum(buckets.take(f"newcomer{number}", 0) == 0 for number in range(1_000)) == 2 * NEWCOMERS
    assert buckets.take("later", 1) == 0


def test_it_costs_microseconds() -> None:
    buckets = Buckets(Rate(10**9, 1))
    for number in range(CALLERS_REMEMBERED):
        buckets.take(f"{number}", 0)
    best = min(spent(buckets) for _ in range(5))
    assert best < 20e-6


def spent(buckets: Buckets) -> float:
    """CPU seconds of one call."""
    began = time.process_time()
    for number in range(1_000):
        buckets.take(f"{number}", 0)
    return (time.process_time() - began) / 1_000
