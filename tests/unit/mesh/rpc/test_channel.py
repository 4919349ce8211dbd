"""A call to another service ends as that service decided, in time, and carries the ids of the call that it is made
for."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from authmesh.user.v1 import user_directory_pb2_grpc
from authmesh.user.v1.user_directory_pb2 import LookupUserRequest
from grpc import aio

import mesh.rpc.channel
from mesh import errors
from mesh.errors import FieldViolation, MeshError, Reason
from mesh.rpc.call import Call, current_call
from mesh.rpc.channel import open_channel
from mesh.rpc.errors import error_table
from tests.kit.calls import CHANGE, FOUND, WATCH, Changes, Directory, around, dialled, found, served, socket_path, unary

REFUSALS = [
    errors.Unauthenticated(Reason.REFRESH_INVALID, "m"),
    errors.PermissionDenied(Reason.STEP_UP_REQUIRED, "m"),
    errors.Unavailable(Reason.REVOCATION_STALE, "m", retry_after=timedelta(seconds=2.5)),
    errors.ResourceExhausted(Reason.RATE_LIMITED, "m", retry_after=timedelta(seconds=7)),
    errors.InvalidArgument(
        Reason.FIELD_INVALID, "m", violations=(FieldViolation("a.b", "c"), FieldViolation("d", "e"))
    ),
    errors.FailedPrecondition(Reason.EMAIL_UNVERIFIED, "m"),
    errors.NotFound(Reason.USER_NOT_FOUND, "m"),
    errors.AlreadyExists(Reason.REQUEST_ID_REUSED, "m"),
    errors.Aborted(Reason.ETAG_MISMATCH, "m"),
    errors.DeadlineExceeded(Reason.DEADLINE, "m"),
    errors.Unimplemented(Reason.NOT_IMPLEMENTED, "m"),
]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
async def test_a_refusal_comes_back_as_it_was_raised(error: MeshError) -> None:
    async def lookup(_: object) -> object:
        raise error

    with socket_path() as path:
        async with served(path, Directory(lookup)), open_channel(path) as channel:
            with pytest.raises(MeshError) as refused:
                await unary(channel)
    assert type(refused.value) is type(error)
    assert vars(refused.value) == vars(error)


async def test_a_refusal_in_a_stream_comes_back_as_it_was_raised() -> None:
    async def watch() -> Any:
        yield CHANGE
        raise errors.Unauthenticated(Reason.TOKEN_REVOKED, "ended")

    with socket_path() as path:
        async with served(path, Changes(watch)), open_channel(path) as channel:
            call: Any = channel.unary_stream(WATCH, request_serializer=bytes, response_deserializer=bytes)
            messages = []
            with pytest.raises(errors.Unauthenticated):
                async for message in call(b""):
                    messages.append(message)  # noqa: PERF401
    assert messages == [CHANGE.SerializeToString()]


async def test_a_fault_of_a_backend_is_a_fault_and_says_nothing_of_it() -> None:
    async def lookup(_: object) -> object:
        raise KeyError("secret")

    with socket_path() as path:
        async with served(path, Directory(lookup)), open_channel(path) as channel:
            with pytest.raises(errors.Internal) as refused:
                await unary(channel)
    assert "secret" not in str(refused.value)


async def test_nobody_there_is_an_outage() -> None:
    with socket_path() as path:
        async with open_channel(path) as channel:
            with pytest.raises(errors.Unavailable) as outage:
                await unary(channel)
    assert outage.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert path not in str(outage.value)


async def test_a_sidecar_that_was_away_for_long_is_found_within_a_second_of_its_return() -> None:
    with socket_path() as path:
        async with open_channel(path) as channel:
            # Each failed attempt makes gRPC wait longer, for two minutes in the end, if it may.
            deadline = asyncio.get_running_loop().time() + 2
            while asyncio.get_running_loop().time() < deadline:
                with pytest.raises(errors.Unavailable):
                    await unary(channel)
                await asyncio.sleep(0.02)
            async with served(path, Directory(found)), asyncio.timeout(1):
                while not await answers(channel):
                    await asyncio.sleep(0.02)


async def answers(channel: aio.Channel) -> bool:
    try:
        return await unary(channel) == FOUND.SerializeToString()
    except errors.Unavailable:
        return False


async def test_a_backend_that_dies_in_the_middle_is_an_outage() -> None:
    arrived = asyncio.Event()

    async def lookup(_: object) -> object:
        arrived.set()
        await asyncio.Event().wait()
        return FOUND

    with socket_path() as path:
        async with served(path, Directory(lookup)) as server, open_channel(path) as channel:
            call = asyncio.ensure_future(unary(channel))
            await arrived.wait()
            await server.stop(0)
            with pytest.raises(errors.Unavailable):
                await call


async def test_a_call_without_a_deadline_has_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh.rpc.channel, "DEFAULT_SECONDS", 0.05)

    async def lookup(_: object) -> object:
        await asyncio.Event().wait()
        return FOUND

    with socket_path() as path:
        async with served(path, Directory(lookup)), open_channel(path) as channel:
            stub = user_directory_pb2_grpc.UserDirectoryStub(channel)
            with pytest.raises(errors.DeadlineExceeded) as late:
                await stub.LookupUser(LookupUserRequest())
    assert late.value.reason is Reason.DEADLINE


async def test_a_caller_that_gives_up_ends_the_call_at_the_backend() -> None:
    arrived, cancelled = asyncio.Event(), asyncio.Event()

    async def lookup(_: object) -> object:
        arrived.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return FOUND

    with socket_path() as path:
        async with served(path, Directory(lookup)), open_channel(path) as channel:
            call = asyncio.ensure_future(unary(channel))
            await arrived.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.wait_for(cancelled.wait(), 2)


async def test_a_stream_that_is_left_ends_at_the_backend() -> None:
    cancelled = asyncio.Event()

    async def watch() -> Any:
        try:
            while True:
                yield CHANGE
                await asyncio.sleep(0.01)
        finally:
            cancelled.set()

    with socket_path() as path:
        async with served(path, Changes(watch)), open_channel(path) as channel:
            open_stream: Any = channel.unary_stream(WATCH, request_serializer=bytes, response_deserializer=bytes)
            call = open_stream(b"", timeout=60)
            async for _ in call:
                break
            call.cancel()
            await asyncio.wait_for(cancelled.wait(), 2)


class Front(Directory):
    """A service that answers by asking another."""

    def __init__(self, channel: aio.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        async def lookup(_: object) -> object:
            await unary(channel, metadata=metadata, timeout=None)  # type: ignore[arg-type]
            return FOUND

        super().__init__(lookup)


async def relayed(
    backend: Directory,
    *,
    metadata: tuple[tuple[str, str], ...] = (),
    own: tuple[tuple[str, str], ...] = (),
    timeout: float = 5,
) -> tuple[Any, Call]:
    """Calls a service that calls `backend`. Returns how the outer call ended, and the call as the backend saw it."""
    calls: list[Call] = []

    @asynccontextmanager
    async def note(call: Call) -> AsyncIterator[None]:
        calls.append(call)
        yield

    with socket_path() as back, socket_path() as front:
        async with (
            served(back, backend, stages=[error_table, around(note)]),
            open_channel(back) as egress,
            served(front, Front(egress, metadata=own)),
            dialled(front) as client,
        ):
            try:
                ended: Any = await unary(client, metadata=metadata, timeout=timeout)
            except aio.AioRpcError as error:
                ended = error
    return ended, calls[0]


async def test_the_ids_of_the_call_go_along() -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    _, call = await relayed(
        Directory(found), metadata=(("x-request-id", "the-id"), ("traceparent", f"00-{trace}-b7ad6b7169203331-01"))
    )
    assert call.request_id == "the-id"
    assert call.trace_id == trace
    assert call.values("x-request-id") == ["the-id"]
    assert call.values("traceparent") == [f"00-{trace}-b7ad6b7169203331-01"]


async def test_a_call_without_a_trace_gets_an_id_and_is_not_traced() -> None:
    _, call = await relayed(Directory(found), metadata=(("traceparent", "00-nothing-like-it-01"),))
    assert re.fullmatch(rf"00-{call.trace_id}-(?!0{{16}})[0-9a-f]{{16}}-00", call.values("traceparent")[0])


async def test_what_is_left_of_the_callers_time_bounds_the_call() -> None:
    remaining: list[float] = []

    async def lookup(_: object) -> object:
        call = current_call()
        assert call
        remaining.append(call.context.time_remaining())
        return FOUND

    await relayed(Directory(lookup), timeout=1)
    assert 0 < remaining[0] < 1.5


async def test_nothing_of_the_callers_own_credentials_goes_along() -> None:
    _, call = await relayed(
        Directory(found),
        metadata=(("authorization", "Bearer t"), ("x-forwarded-client-cert", "URI=spiffe://authmesh/auth")),
    )
    assert not call.values("authorization")
    assert not call.values("x-forwarded-client-cert")


@pytest.mark.parametrize(
    "error",
    [
        errors.Unauthenticated(Reason.TOKEN_MISSING, "m"),
        errors.Unauthenticated(Reason.TOKEN_INVALID, "m"),
        errors.PermissionDenied(Reason.CALLER_NOT_ALLOWED, "m"),
    ],
    ids=lambda error: str(error.reason),
)
async def test_a_backend_that_refuses_us_is_a_fault_of_ours_and_no_verdict_on_the_client(error: MeshError) -> None:
    async def lookup(_: object) -> object:
        raise error

    ended, _ = await relayed(Directory(lookup))
    assert ended.code() is grpc.StatusCode.INTERNAL


async def test_a_verdict_on_the_clients_refresh_token_passes_through() -> None:
    async def lookup(_: object) -> object:
        raise errors.Unauthenticated(Reason.REFRESH_INVALID, "m")

    ended, _ = await relayed(Directory(lookup))
    assert ended.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_metadata_of_8_kib_passes() -> None:
    _, call = await relayed(Directory(found), own=(("authorization", "x" * 8192),))
    assert len(call.values("authorization")[0]) == 8192
