"""One interceptor stands before every handler: stages in order, and nothing served that the contract does not rule."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from authmesh.options.v1 import access_pb2
from authmesh.resource.v1 import resource_service_pb2_grpc
from authmesh.user.v1 import user_directory_pb2_grpc
from google.protobuf import descriptor_pb2
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mesh.contract import Contract
from mesh.errors import NotFound, Reason, Unavailable
from mesh.rpc.call import Call, Stage
from mesh.rpc.errors import error_table
from mesh.rpc.interceptor import MeshInterceptor
from mesh.rpc.validation import Validation
from tests.kit.calls import (
    CHANGE,
    CONTRACT,
    FOUND,
    LOOKUP,
    REQUEST,
    WATCH,
    Changes,
    Directory,
    around,
    dialled,
    found,
    refusal,
    served,
    serving,
    socket_path,
    stream,
    unary,
)
from tests.kit.calls import health as health_of
from tests.kit.protocols import from_trailers
from tests.kit.raw_http2 import connected, frame, grpc_head


def noting(name: str, seen: list[str]) -> Stage:
    @asynccontextmanager
    async def stage(_: Call) -> AsyncIterator[None]:
        seen.append(f"+{name}")
        try:
            yield
        finally:
            seen.append(f"-{name}")

    return around(stage)


def without_rules(*paths: str, gone: bool = False) -> Contract:
    """The contract, with some methods' rules or the methods themselves taken out."""
    files = descriptor_pb2.FileDescriptorSet.FromString(CONTRACT.descriptors)
    for file in files.file:
        for service in file.service:
            for method in list(service.method):
                if f"/{file.package}.{service.name}/{method.name}" not in paths:
                    continue
                if gone:
                    service.method.remove(method)
                else:
                    method.options.ClearExtension(access_pb2.access)
    return Contract(files.SerializeToString(), CONTRACT.descriptor_file)


async def watch() -> Any:
    yield CHANGE
    yield CHANGE


async def test_stages_are_entered_in_order_and_left_in_reverse() -> None:
    seen: list[str] = []
    async with serving(Directory(found), stages=[noting("outer", seen), noting("inner", seen)]) as channel:
        assert await unary(channel) == FOUND.SerializeToString()
    assert seen == ["+outer", "+inner", "-inner", "-outer"]


async def test_stages_stand_around_the_whole_of_a_stream() -> None:
    seen: list[str] = []

    async def watched() -> Any:
        seen.append("handler")
        yield CHANGE

    async with serving(Changes(watched), stages=[noting("stage", seen)]) as channel:
        assert [message async for message in stream(channel)] == [CHANGE.SerializeToString()]
    assert seen == ["+stage", "handler", "-stage"]


async def test_a_stage_that_refuses_keeps_the_handler_and_later_stages_out() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def refuse(call: Call) -> AsyncIterator[None]:
        for _ in range(0):
            yield
        raise NotFound(Reason.USER_NOT_FOUND, "no")

    async def lookup(_: object) -> object:
        raise AssertionError

    stages = [error_table, noting("before", seen), around(refuse), noting("after", seen)]
    async with serving(Directory(lookup), Changes(watch), stages=stages) as channel:
        assert (await refusal(unary(channel))).reason == "USER_NOT_FOUND"
        assert (await refusal(stream(channel).read())).reason == "USER_NOT_FOUND"
    assert seen == ["+before", "-before"] * 2


async def test_a_stage_can_end_a_stream_as_a_timeout_would() -> None:
    ended = asyncio.Event()

    @asynccontextmanager
    async def ending(_: Call) -> AsyncIterator[None]:
        task = asyncio.current_task()
        assert task
        asyncio.get_running_loop().call_later(0.02, task.cancel)
        try:
            yield
        except asyncio.CancelledError:
            task.uncancel()
            raise Unavailable(Reason.REVOCATION_STALE, "ended") from None

    async def endless() -> Any:
        try:
            while True:
                yield CHANGE
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    async with serving(Changes(endless), stages=[error_table, around(ending)]) as channel:
        with pytest.raises(aio.AioRpcError, match="ended"):
            async for _ in stream(channel):
                pass
        await asyncio.wait_for(ended.wait(), 2)


async def test_a_client_that_leaves_ends_its_stream_and_the_handlers_clean_up() -> None:
    ended = asyncio.Event()
    seen: list[str] = []

    async def endless() -> Any:
        try:
            yield CHANGE
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(Changes(endless), stages=[noting("stage", seen), error_table]) as channel:
        call = stream(channel)
        await call.read()
        call.cancel()
        await asyncio.wait_for(ended.wait(), 2)
    assert seen == ["+stage", "-stage"]


@pytest.mark.parametrize("gone", [False, True], ids=["no rule", "not in the contract"])
async def test_a_method_without_a_rule_is_denied_whatever_the_stages_say(gone: bool) -> None:
    async def lookup(_: object) -> object:
        raise AssertionError

    contract = without_rules(LOOKUP, WATCH, gone=gone)
    async with serving(Directory(lookup), Changes(watch), contract=contract) as channel:
        denied = await refusal(unary(channel))
        assert (denied.status, denied.reason) == (grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")
        assert (await refusal(stream(channel).read())).reason == "CALLER_NOT_ALLOWED"


async def test_health_is_served_without_a_rule_and_nothing_else_of_grpc() -> None:
    async def channelz(_: object, __: object) -> bytes:
        raise AssertionError

    with socket_path() as path:
        server = aio.server(interceptors=[MeshInterceptor(CONTRACT, [error_table])])
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
        handlers: dict[str, Any] = {"GetServers": grpc.unary_unary_rpc_method_handler(channelz)}
        server.add_registered_method_handlers("grpc.channelz.v1.Channelz", handlers)
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        try:
            async with dialled(path) as channel:
                answer = await health_of(channel).Check(health_pb2.HealthCheckRequest())
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
                assert (
                    await refusal(unary(channel, "/grpc.channelz.v1.Channelz/GetServers"))
                ).reason == "CALLER_NOT_ALLOWED"
        finally:
            await server.stop(None)


INCOMPLETE = {
    "nothing": b"",
    "a part of the prefix": b"\0\0\0",
    "a prefix alone": b"\0\0\0\0\5",
    "a part of the message": b"\0\0\0\0\5abc",
}


@pytest.mark.parametrize("body", INCOMPLETE.values(), ids=INCOMPLETE.keys())
async def test_a_request_that_ends_before_a_whole_message_is_answered(body: bytes) -> None:
    async def lookup(_: object) -> object:
        raise AssertionError

    with socket_path() as path:
        server = aio.server(interceptors=[MeshInterceptor(CONTRACT, [error_table, Validation()])])
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
        user_directory_pb2_grpc.add_UserDirectoryServicer_to_server(Directory(lookup), server)
        resource_service_pb2_grpc.add_ResourceServiceServicer_to_server(Changes(watch), server)
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        try:
            async with connected(path) as connection:
                for method in (LOOKUP, WATCH, "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"):
                    answer = await (await connection.request(grpc_head(method), body)).end(within=5)
                    refused = from_trailers(answer.headers)
                    assert (*refused.outcome, refused.fields) == ("INVALID_ARGUMENT", "FIELD_INVALID", ("request",)), (
                        method
                    )
        finally:
            await server.stop(None)


async def test_a_stream_to_a_method_that_is_not_there_is_refused_before_it_says_anything() -> None:
    with socket_path() as path:
        async with served(path, Directory(found)), connected(path) as connection:
            stream = await connection.open(grpc_head("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"))
            assert from_trailers((await stream.end(within=5)).headers).outcome == ("UNIMPLEMENTED", "NOT_IMPLEMENTED")


# What grpc core parses of a request, whatever the service does. One of each way to fail.
UNREADABLE = (
    ("grpc-timeout", "abc"),
    ("grpc-encoding", "nothing"),
    ("grpc-internal-encoding-request", "nothing"),
    ("grpc-retry-pushback-ms", "soon"),
    ("grpc-previous-rpc-attempts", "many"),
    ("grpc-status", "good"),
    ("te", "gzip"),
    (":method", "DELETE"),
    (":scheme", "ftp"),
    ("some-bin", "!"),
    ("some!thing", "x"),
)


@pytest.mark.parametrize("header", UNREADABLE, ids=lambda header: header[0])
async def test_a_header_that_grpc_can_t_parse_costs_its_own_call_and_no_other_of_the_connection(
    header: tuple[str, str],
) -> None:
    good = {
        "grpc-timeout": "1S",
        "te": "trailers",
        "grpc-encoding": "identity",
        ":method": "POST",
        ":scheme": "http",
        "some-bin": "YQ",
    }
    with socket_path() as path:
        async with served(path, Directory(found)), connected(path) as connection:

            async def status(*more: tuple[str, str]) -> str:
                return (await (await connection.request(grpc_head(LOOKUP, *more), frame(REQUEST))).end()).headers[
                    "grpc-status"
                ]

            assert await status() == "0"
            assert await status(header) != "0"
            assert await status() == "0"
            if header[0] in good:
                assert await status((header[0], good[header[0]])) == "0"


async def test_two_first_calls_at_once_are_both_served() -> None:
    async with serving(Directory(found)) as channel:
        answers = await asyncio.gather(*(unary(channel, request=REQUEST) for _ in range(20)))
    assert answers == [FOUND.SerializeToString()] * 20
