"""What a caller can do around a credential: metadata, size, streams cut off, methods without a rule, and what refusals
give away."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from authmesh.audit.v1 import audit_event_pb2
from authmesh.token.v1 import token_service_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.contract import Contract
from mesh.rpc.channel import OPTIONS
from mesh.storage.database import Database
from tests.conftest import held
from tests.kit.hostile_tokens import Forger
from tests.kit.token_calls import by, reason
from tests.kit.token_process import TokenProcess, running

LIST = token_service_pb2.ListSessionsRequest(parent="users/me")


@pytest.fixture(scope="module")
async def database_url(new_database_url: Callable[[str], Awaitable[str]]) -> str:
    return await new_database_url("services.token")


@pytest.fixture(scope="module")
async def process(database_url: str, valkey_server: Any) -> AsyncIterator[TokenProcess]:
    async with held(running(database_url, valkey_server.url)) as token:
        yield token


@pytest.fixture(scope="module")
async def forger(process: TokenProcess) -> Forger:
    return Forger(process.key, process.signer.key_id)


async def refused(process: TokenProcess, *pairs: tuple[str, str | bytes]) -> str:
    return await reason(process.tokens.ListSessions(LIST, metadata=aio.Metadata(*by("edge"), *pairs)))


async def test_a_credential_is_in_the_one_place_where_it_belongs(process: TokenProcess, forger: Forger) -> None:
    good = f"Bearer {forger.token()}"
    assert await refused(process, ("authorization", good)) == "OK"
    for pair in (
        ("authorization-bin", good.encode()),
        ("proxy-authorization", good),
        ("x-access-token", good),
        ("cookie", f"access_token={good}"),
    ):
        assert await refused(process, pair) == "UNAUTHENTICATED TOKEN_MISSING"
    # Keys of HTTP/2 are lower case: another spelling never arrives.
    assert await refused(process, ("authorization", good), ("authorization-bin", b"x")) == "OK"


async def test_every_method_with_a_rule_for_tokens_refuses_a_call_without_one(process: TokenProcess) -> None:
    asked = 0
    for path, rpc in Contract.load().rpcs.items():
        if rpc.service.startswith("authmesh.token.") and rpc.access.HasField("authenticated"):
            call = process.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
            assert await reason(call(b"", metadata=by("edge"))) == "UNAUTHENTICATED TOKEN_MISSING", path
            asked += 1
    assert asked >= 10


async def test_nothing_but_health_is_served_without_a_rule(process: TokenProcess) -> None:
    health: Any = health_pb2_grpc.HealthStub(process.channel)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    unserved = (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.channelz.v1.Channelz/GetServers", "/authmesh.token.v1.TokenService/Nothing",
        "/authmesh.token.v1.TokenService/refreshtoken", "/x",
    )  # fmt: skip
    for path in unserved:
        call = process.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        assert await reason(call(b"", metadata=by("edge"))) == "UNIMPLEMENTED NOT_IMPLEMENTED", path


async def test_metadata_beyond_every_limit_is_refused_and_the_process_lives(
    process: TokenProcess, forger: Forger
) -> None:
    for size in (100_000, 1_000_000):
        async with aio.insecure_channel(
            f"unix:{process.socket}", options=[*OPTIONS, ("grpc.primary_user_agent", "big")]
        ) as channel:
            call = channel.unary_unary(
                "/authmesh.token.v1.TokenService/ListSessions", request_serializer=bytes, response_deserializer=bytes
            )
            with pytest.raises(aio.AioRpcError) as caught:
                await call(b"", metadata=aio.Metadata(("authorization", "Bearer " + "x" * size)), timeout=5)
        assert caught.value.code().name == "RESOURCE_EXHAUSTED"
    assert await refused(process, ("authorization", f"Bearer {forger.token()}")) == "OK"


async def test_a_refusal_of_an_authenticated_caller_is_a_row_with_all_that_an_investigation_needs(
    process: TokenProcess, forger: Forger, database_url: str
) -> None:
    token = forger.token(scope="resource:read")
    metadata = aio.Metadata(*by("edge", token), ("user-agent", "evil/1"), ("x-request-id", "trace-me"))
    assert await reason(process.tokens.ListSessions(LIST, metadata=metadata)) == "PERMISSION_DENIED SCOPE_MISSING"
    async with Database.open(database_url) as database:
        rows = await database.fetch("SELECT payload FROM outbox WHERE destination = 'access.denied'")
    (event,) = [audit_event_pb2.AuditEvent.FromString(row["payload"]) for row in rows]
    assert (event.reason, event.outcome) == ("SCOPE_MISSING", audit_event_pb2.OUTCOME_FAILURE)
    assert (event.request_id, event.detail["method"]) == ("trace-me", "/authmesh.token.v1.TokenService/ListSessions")
    # Where the relay was faster, what is personal is sealed already.
    assert event.address == "198.51.100.9" or event.sealed
    assert event.session.endswith(forger.claims()["sid"])


async def test_refusals_say_what_to_do_and_nothing_of_the_inside(process: TokenProcess, forger: Forger) -> None:
    messages = set()
    for authorization in (
        "Bearer x",
        f"Bearer {forger.token({'kid': 'nobody'})}",
        f"Bearer {forger.token(aud='x')}",
        "x",
    ):
        with pytest.raises(aio.AioRpcError) as caught:
            await process.tokens.ListSessions(
                LIST, metadata=aio.Metadata(*by("edge"), ("authorization", authorization))
            )
        messages.add(caught.value.details())
        assert set(dict(caught.value.trailing_metadata() or ())) <= {
            "grpc-status-details-bin",
            "x-request-id",
            "www-authenticate",
        }
    assert messages == {"the access token is not valid", "this method requires `authorization: Bearer <access token>`"}


async def test_streams_opened_and_reset_by_the_thousand_leave_room_for_others(
    process: TokenProcess, forger: Forger
) -> None:
    # CVE-2023-44487, rapid reset, on the process's own socket; the sidecar's limits come on top.
    reader, writer = await asyncio.open_unix_connection(process.socket)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b""))
    block = b"".join(_literal(name, value) for name, value in _HEADERS)
    try:
        for stream in range(1, 4001, 2):
            writer.write(_frame(1, 4, stream, block) + _frame(3, 0, stream, struct.pack(">I", 8)))
            if stream % 200 == 1:
                await writer.drain()
        await writer.drain()
    except ConnectionError:
        pass  # The server may hang up on such a client.
    async with asyncio.timeout(5):
        assert await refused(process, ("authorization", f"Bearer {forger.token()}")) == "OK"
    writer.close()
    reader.feed_eof()


_HEADERS = (
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/authmesh.token.v1.TokenService/GetJwks"),
    (b":authority", b"token"),
    (b"te", b"trailers"), (b"content-type", b"application/grpc"),
)  # fmt: skip


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header field of HPACK, neither compressed nor remembered."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
