"""What the tests of the server kit share: a real server on a unix socket, servicers of one function each, and refusals
as clients read them."""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import Mock

import grpc
from authmesh.resource.v1 import resource_service_pb2, resource_service_pb2_grpc
from authmesh.token.v1 import token_service_pb2_grpc
from authmesh.user.v1 import user_directory_pb2, user_directory_pb2_grpc
from google.api import httpbody_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_health.v1 import health_pb2_grpc

from mesh.contract import Contract, Rpc
from mesh.rpc.call import GATEWAY, Call, Handler, Stage
from mesh.rpc.channel import OPTIONS
from mesh.rpc.errors import error_table
from mesh.rpc.interceptor import MeshInterceptor

CONTRACT = Contract.load()
LOOKUP = "/authmesh.user.v1.UserDirectory/LookupUser"
CREATE = "/authmesh.user.v1.UserDirectory/CreateUser"
GET = "/authmesh.resource.v1.ResourceService/GetResource"
JWKS = "/authmesh.token.v1.TokenService/GetJwks"
WATCH = "/authmesh.resource.v1.ResourceService/WatchResources"
REQUEST = user_directory_pb2.LookupUserRequest(email="ada@example.org").SerializeToString()
FOUND = user_directory_pb2.LookupUserResponse(user_id="ada")
CHANGE = resource_service_pb2.WatchResourcesResponse(resume_token="1")

Lookup = Callable[[user_directory_pb2.LookupUserRequest], Awaitable[Any]]
Watch = Callable[[], AsyncIterator[Any]]


# The generated classes are abstract to a type checker, and here the methods that a release lacks are the point.
_UserDirectory: Any = user_directory_pb2_grpc.UserDirectoryServicer
_ResourceService: Any = resource_service_pb2_grpc.ResourceServiceServicer
_TokenService: Any = token_service_pb2_grpc.TokenServiceServicer


class Directory(_UserDirectory):  # type: ignore[misc]
    """Serves LookupUser; CreateUser stays as the generated base class has it."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def LookupUser(
        self, request: user_directory_pb2.LookupUserRequest, context: Any
    ) -> user_directory_pb2.LookupUserResponse:
        return await self._lookup(request)  # type: ignore[no-any-return]


class Keys(_TokenService):  # type: ignore[misc]
    """Serves GetJwks, which is public."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def GetJwks(self, request: Any, context: Any) -> httpbody_pb2.HttpBody:
        await self._lookup(request)
        return httpbody_pb2.HttpBody()


class Changes(_ResourceService):  # type: ignore[misc]
    """Serves WatchResources and GetResource, which want a token."""

    def __init__(self, watch: Watch, lookup: Lookup | None = None) -> None:
        self._watch = watch
        self._lookup = lookup or found

    async def GetResource(self, request: Any, context: Any) -> resource_service_pb2.Resource:
        await self._lookup(request)
        return resource_service_pb2.Resource(name="resources/1")

    async def WatchResources(
        self, request: Any, context: Any
    ) -> AsyncIterator[resource_service_pb2.WatchResourcesResponse]:
        async for change in self._watch():
            yield change


async def found(_: user_directory_pb2.LookupUserRequest) -> user_directory_pb2.LookupUserResponse:
    return FOUND


@contextmanager
def socket_path() -> Iterator[str]:
    """A path short enough for a unix socket, which pytest's own directories are not."""
    with tempfile.TemporaryDirectory(prefix="rpc-") as directory:
        yield f"{directory}/s"


@asynccontextmanager
async def dialled(path: str) -> AsyncIterator[aio.Channel]:
    """A plain channel: what a sidecar would be."""
    async with aio.insecure_channel(f"unix:{path}", options=OPTIONS) as channel:
        yield channel


@asynccontextmanager
async def served(
    path: str,
    *servicers: Directory | Changes | Keys,
    stages: Sequence[Stage] = (error_table,),
    contract: Contract = CONTRACT,
) -> AsyncIterator[aio.Server]:
    """A server with the interceptor and the given stages."""
    server = aio.server(interceptors=[MeshInterceptor(contract, stages)], options=OPTIONS)
    for servicer in servicers:
        if isinstance(servicer, Directory):
            user_directory_pb2_grpc.add_UserDirectoryServicer_to_server(servicer, server)
        elif isinstance(servicer, Keys):
            token_service_pb2_grpc.add_TokenServiceServicer_to_server(servicer, server)
        else:
            resource_service_pb2_grpc.add_ResourceServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield server
    finally:
        await server.stop(None)


@asynccontextmanager
async def serving(
    *servicers: Directory | Changes | Keys, stages: Sequence[Stage] = (error_table,), contract: Contract = CONTRACT
) -> AsyncIterator[aio.Channel]:
    """A server and a plain channel to it."""
    with socket_path() as path:
        async with served(path, *servicers, stages=stages, contract=contract), dialled(path) as channel:
            yield channel


def health(channel: aio.Channel) -> Any:
    """A stub of the health service, whose generated class says nothing of its methods."""
    return health_pb2_grpc.HealthStub(channel)


async def unary(
    channel: aio.Channel,
    path: str = LOOKUP,
    request: bytes = REQUEST,
    metadata: Sequence[tuple[str, str | bytes]] = (),
    timeout: float = 5,
) -> bytes:
    """Calls a method with bytes as they are."""
    call: Any = channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
    return await call(request, metadata=metadata, timeout=timeout)  # type: ignore[no-any-return]


def stream(channel: aio.Channel, path: str = WATCH, request: bytes = b"", timeout: float | None = 5) -> Any:
    """Opens a stream with bytes as they are."""
    call: Any = channel.unary_stream(path, request_serializer=bytes, response_deserializer=bytes)
    return call(request, timeout=timeout)


@dataclass(frozen=True)
class Refusal:
    """What a client learns."""

    status: grpc.StatusCode
    message: str
    reason: str
    violations: dict[str, str]
    retry_seconds: float | None


def read(error: aio.AioRpcError) -> Refusal:
    """Reads `google.rpc.Status` as any client would."""
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    seconds = None
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            assert status.code == error.code().value[0]
            assert status.message == error.details()
            for detail in status.details:
                detail.Unpack(info)
                detail.Unpack(bad)
                if detail.Unpack(retry):
                    seconds = retry.retry_delay.ToTimedelta().total_seconds()
    assert info.domain == "authmesh", error
    return Refusal(
        error.code(),
        error.details() or "",
        info.reason,
        {item.field: item.description for item in bad.field_violations},
        seconds,
    )


async def refusal(answer: Awaitable[Any]) -> Refusal:
    """The refusal that a call ends with."""
    try:
        got = await answer
    except aio.AioRpcError as error:
        return read(error)
    raise AssertionError(f"no refusal but {got!r}")


def call_from_edge(rpc: Rpc, *metadata: tuple[str, str], context: Any = None) -> Call:
    """A call without a server, as one comes through the edge."""
    context = context or Mock()
    context.invocation_metadata = lambda: (("x-forwarded-client-cert", f"URI=spiffe://authmesh/{GATEWAY}"), *metadata)
    return Call(rpc, b"", Mock(), context)


def around(block: Callable[[Call], AbstractAsyncContextManager[None]]) -> Stage:
    """A stage that has a block around every call."""

    def stage(_: Rpc, proceed: Handler) -> Handler:
        async def within(call: Call) -> Any:
            async with block(call):
                return await proceed(call)

        return within

    return stage


class AdmitAll:
    """An authentication that lets everything through."""

    parts = ()

    def __call__(self, rpc: Rpc, proceed: Handler) -> Handler:
        return proceed
