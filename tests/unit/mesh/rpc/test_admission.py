"""A server takes as many calls as it can finish, each for as long as its caller waits, and sheds the rest at once."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from authmesh.resource.v1 import resource_service_pb2

import mesh.rpc.admission
from mesh.rpc.admission import Admission
from mesh.rpc.errors import error_table
from tests.kit.calls import (
    CHANGE,
    FOUND,
    GET,
    JWKS,
    LOOKUP,
    REQUEST,
    AdmitAll,
    Changes,
    Directory,
    Keys,
    found,
    refusal,
    serving,
    stream,
    unary,
)
from tests.kit.gate import Gate


async def test_calls_above_the_limit_are_shed_at_once_and_those_inside_finish() -> None:
    gate = Gate()
    async with serving(Directory(gate.lookup), stages=[error_table, Admission(3)]) as channel:
        inside = [asyncio.ensure_future(unary(channel)) for _ in range(3)]
        await gate.arrived(3)
        shed = await refusal(unary(channel))
        assert (shed.status, shed.reason, shed.retry_seconds) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", 1)
        gate.open()
        assert await asyncio.gather(*inside) == [FOUND.SerializeToString()] * 3
        assert await unary(channel)


async def test_a_call_that_failed_or_was_given_up_leaves_its_place() -> None:
    gate = Gate()

    async def fail(_: object) -> object:
        raise KeyError

    async with serving(Directory(fail), stages=[error_table, Admission(1)]) as channel:
        for _ in range(3):
            assert (await refusal(unary(channel))).reason == "INTERNAL"
    async with serving(Directory(gate.lookup), stages=[error_table, Admission(1)]) as channel:
        call = asyncio.ensure_future(unary(channel))
        await gate.arrived(1)
        call.cancel()
        gate.open()
        async with asyncio.timeout(5):
            while not await succeeded(channel):
                await asyncio.sleep(0)


def from_client(address: str) -> Sequence[tuple[str, str]]:
    """What the edge says of a client."""
    return (("x-forwarded-client-cert", "URI=spiffe://authmesh/edge"), ("x-envoy-external-address", address))


def from_node(name: str) -> Sequence[tuple[str, str]]:
    return (("x-forwarded-client-cert", f"URI=spiffe://authmesh/{name}"),)


async def flood(channel: Any, gate: Gate, path: str, metadata: Sequence[tuple[str, str]], number: int) -> int:
    """How many of so many calls at once are let in."""
    before = gate.waiting
    tasks = [
        asyncio.ensure_future(unary(channel, path, REQUEST if path == LOOKUP else b"", metadata, timeout=60))
        for _ in range(number)
    ]
    while gate.waiting - before + sum(task.done() for task in tasks) < number:
        await asyncio.sleep(0.01)
    assert {(await refusal(task)).reason for task in tasks if task.done()} <= {"OVERLOADED"}
    return gate.waiting - before


@pytest.mark.parametrize("kind", ["public", "internal", "authenticated"])
async def test_a_flood_of_one_kind_of_calls_leaves_room_for_each_other_kind(kind: str) -> None:
    gate = Gate()
    paths = {"public": JWKS, "internal": LOOKUP, "authenticated": GET}
    async with serving(
        Directory(gate.lookup), Keys(gate.lookup), Changes(gate.watch, gate.lookup), stages=[error_table, Admission(40)]
    ) as channel:
        assert await flood(channel, gate, paths.pop(kind), (), 50) == 30
        for path in paths.values():
            assert await flood(channel, gate, path, (), 10) == 5
        gate.open()


async def test_no_client_address_and_no_node_takes_all_calls_of_their_kind() -> None:
    gate = Gate()
    async with serving(
        Directory(gate.lookup), Keys(gate.lookup), Changes(gate.watch, gate.lookup), stages=[error_table, Admission(40)]
    ) as channel:
        assert await flood(channel, gate, JWKS, from_client("192.0.2.1"), 40) == 6
        assert await flood(channel, gate, JWKS, from_client("192.0.2.2"), 1) == 1
        assert await flood(channel, gate, LOOKUP, from_node("resource"), 40) == 14
        assert await flood(channel, gate, LOOKUP, from_node("auth"), 1) == 1
        gate.open()


async def succeeded(channel: Any) -> bool:
    try:
        await unary(channel)
    except grpc.RpcError:
        return False
    return True


async def test_open_streams_leave_room_for_other_calls() -> None:
    gate = Gate()
    async with serving(Directory(found), Changes(gate.watch), stages=[error_table, Admission(2)]) as channel:
        streams = [stream(channel) for _ in range(3)]
        await gate.arrived(3)
        assert (await refusal(stream(channel).read())).reason == "OVERLOADED"
        assert await unary(channel) == FOUND.SerializeToString()
        for call in streams:
            call.cancel()


async def test_a_call_ends_when_its_callers_time_is_up() -> None:
    gate = Gate()
    async with serving(Directory(gate.lookup), stages=[error_table, Admission(5)]) as channel:
        with pytest.raises(grpc.RpcError) as ended:
            await unary(channel, timeout=0.05)
        assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(2):
            while not gate.cancelled:
                await asyncio.sleep(0)


async def test_a_call_without_a_deadline_ends_at_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh.rpc.admission, "UNARY_SECONDS", 0.05)
    gate = Gate()
    async with serving(Directory(gate.lookup), stages=[error_table, Admission(5)]) as channel:
        for timeout in (None, 60):
            refused = await refusal(unary(channel, timeout=timeout))  # type: ignore[arg-type]
            assert (refused.status, refused.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE")


async def test_a_handlers_own_timeout_is_no_deadline_of_the_call() -> None:
    async def lookup(_: object) -> object:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()
        return FOUND

    async with serving(Directory(lookup), stages=[error_table, Admission(5)]) as channel:
        assert (await refusal(unary(channel))).reason == "INTERNAL"


async def test_draining_ends_streams_and_lets_other_calls_finish() -> None:
    gate = Gate()
    admission = Admission(5)
    async with serving(
        Directory(gate.lookup), Changes(gate.watch), stages=[error_table, admission, AdmitAll()]
    ) as channel:
        call, watching = asyncio.ensure_future(unary(channel)), stream(channel)
        assert await watching.read() == CHANGE.SerializeToString()
        await gate.arrived(2)
        admission.drain()
        ended = await refusal(watching.read())
        assert (ended.status, ended.reason) == (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")
        assert ended.retry_seconds
        gate.open()
        assert await call == FOUND.SerializeToString()


async def to_the_end(call: Any) -> None:
    async with asyncio.timeout(2):
        async for _ in call:
            pass


async def test_a_stream_that_is_ended_while_its_first_message_waits_for_the_client_is_answered() -> None:
    writing = asyncio.Event()

    async def watch() -> AsyncIterator[resource_service_pb2.WatchResourcesResponse]:
        writing.set()
        # More than the client's window: the write ends when the client reads.
        yield resource_service_pb2.WatchResourcesResponse(resume_token="t" * 1_000_000)

    admission = Admission(5)
    async with serving(Changes(watch), stages=[error_table, admission]) as channel:
        call = stream(channel)
        await writing.wait()
        admission.drain()
        # The status overtakes what is not yet on the wire.
        assert (await refusal(to_the_end(call))).status is grpc.StatusCode.UNAVAILABLE


async def test_a_stream_that_comes_while_draining_is_sent_elsewhere() -> None:
    gate = Gate()
    admission = Admission(5)
    async with serving(Changes(gate.watch), stages=[error_table, admission]) as channel:
        admission.drain()
        started = time.monotonic()
        assert (await refusal(stream(channel).read())).status is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - started < 1
    assert not gate.waiting


async def test_a_stream_whose_client_leaves_while_draining_is_just_gone() -> None:
    gate = Gate()
    admission = Admission(5)
    async with serving(Changes(gate.watch), stages=[error_table, admission]) as channel:
        call = stream(channel)
        await gate.arrived(1)
        admission.drain()
        call.cancel()
        async with asyncio.timeout(2):
            while not gate.cancelled:
                await asyncio.sleep(0)
    assert gate.cancelled == 1
