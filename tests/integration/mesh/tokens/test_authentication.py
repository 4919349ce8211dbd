"""The authentication stage around real handlers, on a real grpc.aio server: what a caller sees, before the call and in
the middle of a stream."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import grpc
import pytest
from authmesh.resource.v1 import resource_service_pb2, resource_service_pb2_grpc
from authmesh.token.v1 import token_issuer_pb2, token_issuer_pb2_grpc, token_service_pb2, token_service_pb2_grpc
from google.api import httpbody_pb2
from google.protobuf import empty_pb2
from grpc import aio

from mesh.contract import Contract
from mesh.errors import MeshError, Reason
from mesh.rpc.call import Call, current_call
from mesh.rpc.channel import OPTIONS
from mesh.rpc.errors import error_table
from mesh.rpc.interceptor import MeshInterceptor
from mesh.rpc.limits import Limits
from mesh.tokens.authentication import Authentication
from mesh.tokens.claims import Claims
from mesh.tokens.feed import RevocationFeed
from mesh.tokens.keys import KeySet
from mesh.tokens.policy import Policy
from mesh.tokens.revocations import Revocation, RevocationKind, RevocationSet
from mesh.tokens.verifier import Verifier
from tests.kit.refusals import described
from tests.kit.snapshots import nothing_revoked
from tests.kit.tokens import AUDIENCE, ISSUER, SESSION, SUBJECT, Mint

XFCC = "x-forwarded-client-cert"


class Handlers(
    token_service_pb2_grpc.TokenServiceServicer,
    token_issuer_pb2_grpc.TokenIssuerServicer,
    resource_service_pb2_grpc.ResourceServiceServicer,
):
    """One method of each kind."""

    def __init__(self) -> None:
        self.claims: Claims | None = None
        self.ended = asyncio.Event()

    async def GetJwks(self, request: Any, context: Any) -> Any:
        call = current_call()
        assert call is not None
        self.claims = call.claims
        return httpbody_pb2.HttpBody()

    async def ListSessions(self, request: Any, context: Any) -> Any:
        call = current_call()
        assert call is not None
        self.claims = call.claims
        return token_service_pb2.ListSessionsResponse()

    async def RevokeSession(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    async def SetSubjectGrants(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    async def WatchResources(self, request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            while True:
                yield resource_service_pb2.WatchResourcesResponse(resume_token="1")
                await asyncio.sleep(60)
        finally:
            self.ended.set()


class Feed(RevocationFeed):
    """A feed that is as stale as the test says."""

    def __init__(self, revocations: RevocationSet) -> None:
        super().__init__("unix:///nowhere", nothing_revoked, revocations)
        self.age = 0.0

    def staleness(self) -> float:
        return self.age

    async def run(self) -> None:
        await asyncio.Event().wait()


class Server:
    """A server with the stage, and a client of it."""

    def __init__(self) -> None:
        self.mint = Mint()
        self.now: Callable[[], float] = time.time
        self.handlers = Handlers()  # type: ignore[abstract] # only these are called
        self.revocations = RevocationSet()
        self.feed = Feed(self.revocations)
        self.keys = KeySet(self.mint.jwks)
        self.denials: list[tuple[str, Reason]] = []
        self.authentication = Authentication(
            Verifier(self.keys, ISSUER, AUDIENCE, clock=lambda: self.now()),
            self.keys,
            self.revocations,
            self.feed,
            Policy(),
            Limits(200),
            denials=self,
            cached_tokens=3,
        )
        self.channel: aio.Channel

    async def run(self) -> None:
        """As a record of denials; this one has nothing to do in the background."""

    async def denied(self, call: Call, error: MeshError) -> None:
        assert call.claims is not None
        self.denials.append((call.rpc.name, error.reason))

    def revoke(self, kind: RevocationKind, value: str) -> None:
        self.revocations.add([Revocation(1, kind, value, 0, int(time.time()) + 600)])

    async def list_sessions(
        self, *authorization: str, parent: str = "users/me", metadata: tuple[tuple[str, str], ...] = ()
    ) -> str:
        """OK, or the status and reason."""
        stub = token_service_pb2_grpc.TokenServiceStub(self.channel)
        values = [("authorization", value) for value in authorization]
        return await outcome(
            stub.ListSessions(
                token_service_pb2.ListSessionsRequest(parent=parent), metadata=aio.Metadata(*values, *metadata)
            )
        )

    def watch(self, token: str) -> Any:
        stub = resource_service_pb2_grpc.ResourceServiceStub(self.channel)
        return stub.WatchResources(
            resource_service_pb2.WatchResourcesRequest(), metadata=aio.Metadata(("authorization", f"Bearer {token}"))
        )


async def outcome(call: Any) -> str:
    try:
        await call
    except aio.AioRpcError as error:
        return described(error)
    return "OK"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with AsyncExitStack() as stack:
        socket = stack.enter_context(tempfile.TemporaryDirectory(prefix="auth-")) + "/s"
        server = aio.server(
            interceptors=[MeshInterceptor(Contract.load(), [error_table, made.authentication])], options=OPTIONS
        )
        token_service_pb2_grpc.add_TokenServiceServicer_to_server(made.handlers, server)
        token_issuer_pb2_grpc.add_TokenIssuerServicer_to_server(made.handlers, server)
        resource_service_pb2_grpc.add_ResourceServiceServicer_to_server(made.handlers, server)
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        made.channel = await stack.enter_async_context(aio.insecure_channel(f"unix:{socket}", options=OPTIONS))
        tasks = [asyncio.create_task(part.run()) for part in made.authentication.parts]
        async with asyncio.timeout(5):
            while not made.keys.loaded:
                await asyncio.sleep(0.01)
        yield made
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await server.stop(0)


def own(server: Server, **claims: Any) -> str:
    return "Bearer " + server.mint.token(**({"scope": "session:manage resource:read"} | claims))


async def test_a_good_token_reaches_the_handler_as_claims(server: Server) -> None:
    assert await server.list_sessions(own(server)) == "OK"
    assert server.handlers.claims is not None
    assert (server.handlers.claims.subject, server.handlers.claims.session) == (SUBJECT, SESSION)


@pytest.mark.parametrize("authorization", [(), ("",), ("Basic YTpi",), ("Bearer",), ("Token x",), ("xBearer x",)])
async def test_without_a_bearer_token_it_is_missing(server: Server, authorization: tuple[str, ...]) -> None:
    assert await server.list_sessions(*authorization) == "UNAUTHENTICATED TOKEN_MISSING"


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
async def test_the_scheme_may_be_written_in_any_case(server: Server, scheme: str) -> None:
    assert await server.list_sessions(own(server).replace("Bearer", scheme)) == "OK"


async def test_the_metadata_is_exact(server: Server) -> None:
    good = own(server)
    for wrong in (good.replace(" ", "  "), good + " x", good + ",Bearer x", good.replace("Bearer ", "Bearer Bearer ")):
        assert await server.list_sessions(wrong) == "UNAUTHENTICATED TOKEN_INVALID"
    assert await server.list_sessions(good, good) == "UNAUTHENTICATED TOKEN_INVALID"
    assert await server.list_sessions(good, "Bearer x") == "UNAUTHENTICATED TOKEN_INVALID"
    assert await server.list_sessions(metadata=(("x-authorization", good),)) == "UNAUTHENTICATED TOKEN_MISSING"


async def test_each_death_of_a_token_has_its_reason_also_when_it_is_remembered(server: Server) -> None:
    token = own(server)
    assert await server.list_sessions(token) == "OK"
    server.now = lambda: time.time() + 700
    assert await server.list_sessions(token) == "UNAUTHENTICATED TOKEN_EXPIRED"
    server.now = time.time
    assert await server.list_sessions(token) == "OK"
    server.revoke(RevocationKind.SESSION, SESSION)
    assert await server.list_sessions(token) == "UNAUTHENTICATED TOKEN_REVOKED"


async def test_a_remembered_token_whose_key_is_gone_is_refused(server: Server) -> None:
    token = own(server)
    assert await server.list_sessions(token) == "OK"
    server.mint.key_id = "k2"
    await server.keys.refresh()
    assert await server.list_sessions(token) == "UNAUTHENTICATED TOKEN_INVALID"


async def test_a_new_key_is_learnt_when_its_first_token_comes(server: Server) -> None:
    server.mint.key_id = "k2"
    assert await server.list_sessions(own(server)) == "OK"


async def test_a_new_key_is_learnt_too_when_a_token_comes_as_data(server: Server) -> None:
    server.mint.key_id = "k2"
    assert (await server.authentication.verify(own(server).removeprefix("Bearer "))).subject == SUBJECT


async def test_what_is_remembered_is_bounded(server: Server) -> None:
    for number in range(10):
        assert await server.list_sessions(own(server, jti=f"t{number}")) == "OK"
    assert len(server.authentication._verified) == 3


async def test_what_happened_is_told_in_figures(server: Server) -> None:
    server.authentication.take_figures()
    token = own(server)
    for _ in range(3):
        assert await server.list_sessions(token) == "OK"
    await server.list_sessions("Bearer x")
    server.revoke(RevocationKind.SESSION, "another")
    line = server.authentication.take_figures().line()
    assert (line["cache_hits"], line["cache_misses"], line["cached_tokens"]) == (2, 2, 1)
    assert (line["revoked_sessions"], line["revoked_keys"], line["staleness_seconds"]) == (1, 0, 0.0)
    assert (line["delivered"], line["delivery_p99_ms"]) == (0, None)
    assert server.authentication.take_figures().cache_hits == 0


async def test_what_is_refused_counts_too_so_one_caller_writes_a_bounded_number_of_events(server: Server) -> None:
    server.authentication._limits = Limits(200, factor=0.1)
    token = own(server, scope="resource:read")
    outcomes = [await server.list_sessions(token) for _ in range(60)]
    assert set(outcomes) == {"PERMISSION_DENIED SCOPE_MISSING", "RESOURCE_EXHAUSTED RATE_LIMITED +RetryInfo"}
    assert len(server.denials) == outcomes.count("PERMISSION_DENIED SCOPE_MISSING") < 60
    assert await server.list_sessions(own(server, sub="0190a1b2-c3d4-7000-8000-00000000000f")) == "OK"


async def test_a_token_good_for_one_method_is_refused_at_another_and_that_is_told(server: Server) -> None:
    token = own(server, scope="resource:read")
    assert await server.list_sessions(token) == "PERMISSION_DENIED SCOPE_MISSING"
    assert (
        await server.list_sessions(own(server), parent="users/0190a1b2-c3d4-7000-8000-00000000000f")
        == "PERMISSION_DENIED SCOPE_MISSING"
    )
    assert server.denials == [("ListSessions", Reason.SCOPE_MISSING)] * 2


async def test_a_stale_feed_is_unavailable_and_says_when_to_try_again(server: Server) -> None:
    stub = token_service_pb2_grpc.TokenServiceStub(server.channel)
    request = token_service_pb2.RevokeSessionRequest(name="users/me/sessions/current")
    authorization = aio.Metadata(("authorization", own(server)))
    server.feed.age = 6
    # RevokeSession wants at most 5 seconds, ListSessions the usual 30.
    assert (
        await outcome(stub.RevokeSession(request, metadata=authorization)) == "UNAVAILABLE REVOCATION_STALE +RetryInfo"
    )
    assert await server.list_sessions(own(server)) == "OK"
    server.feed.age = float("inf")
    assert await server.list_sessions(own(server)) == "UNAVAILABLE REVOCATION_STALE +RetryInfo"
    # What is certain is said all the same.
    assert await server.list_sessions("Bearer x") == "UNAUTHENTICATED TOKEN_INVALID"


async def test_a_public_method_ignores_a_token_whatever_it_is(server: Server) -> None:
    stub = token_service_pb2_grpc.TokenServiceStub(server.channel)
    for token in (own(server), "Bearer nonsense", "x"):
        assert (
            await outcome(
                stub.GetJwks(token_service_pb2.GetJwksRequest(), metadata=aio.Metadata(("authorization", token)))
            )
            == "OK"
        )
        assert server.handlers.claims is None


@pytest.mark.parametrize(("certificate", "expected"), [
    ("By=spiffe://authmesh/token;URI=spiffe://authmesh/user", "OK"),
    ("URI=spiffe://authmesh/auth", "PERMISSION_DENIED CALLER_NOT_ALLOWED"),
    ("URI=spiffe://authmesh/edge", "PERMISSION_DENIED CALLER_NOT_ALLOWED"),
    ("URI=spiffe://evil/user", "PERMISSION_DENIED CALLER_NOT_ALLOWED"),
    ("", "PERMISSION_DENIED CALLER_NOT_ALLOWED"), (None, "PERMISSION_DENIED CALLER_NOT_ALLOWED"),
])  # fmt: skip
async def test_an_internal_method_goes_by_the_certificate_and_no_token_helps(
    server: Server, certificate: str | None, expected: str
) -> None:
    stub = token_issuer_pb2_grpc.TokenIssuerStub(server.channel)
    request = token_issuer_pb2.SetSubjectGrantsRequest(subject=SUBJECT, version=1)
    pairs = [("authorization", own(server, roles=["admin"]))] + (
        [(XFCC, certificate)] if certificate is not None else []
    )
    assert await outcome(stub.SetSubjectGrants(request, metadata=aio.Metadata(*pairs))) == expected


async def ending(stream: Any) -> tuple[str, float]:
    """How and when an open stream ends."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(5):
            while await stream.read() is not grpc.aio.EOF:
                pass
    except aio.AioRpcError as error:
        return described(error), time.monotonic() - started
    return "OK", time.monotonic() - started


async def test_an_open_stream_ends_within_a_second_of_its_token_s_revocation(server: Server) -> None:
    stream = server.watch(own(server).removeprefix("Bearer "))
    assert await stream.read() is not grpc.aio.EOF
    server.revoke(RevocationKind.SUBJECT, "somebody else")
    server.revoke(RevocationKind.SESSION, SESSION)
    reason, seconds = await ending(stream)
    assert reason == "UNAUTHENTICATED TOKEN_REVOKED"
    assert seconds < 1
    assert server.handlers.ended.is_set()


async def test_an_open_stream_ends_within_a_second_of_its_token_s_expiry(server: Server) -> None:
    now = int(time.time())
    stream = server.watch(server.mint.token(scope="resource:read", iat=now - 10, exp=now + 2))
    assert await stream.read() is not grpc.aio.EOF
    reason, _ = await ending(stream)
    assert reason == "UNAUTHENTICATED TOKEN_EXPIRED"
    assert now + 2 <= time.time() < now + 3


async def test_an_open_stream_ends_when_nobody_knows_any_more_whether_its_token_is_good(server: Server) -> None:
    stream = server.watch(own(server).removeprefix("Bearer "))
    assert await stream.read() is not grpc.aio.EOF
    server.feed.age = 31
    assert (await ending(stream))[0] == "UNAVAILABLE REVOCATION_STALE +RetryInfo"


async def test_a_stream_that_its_client_leaves_is_forgotten(server: Server) -> None:
    stream = server.watch(own(server).removeprefix("Bearer "))
    assert await stream.read() is not grpc.aio.EOF
    assert len(server.authentication._streams) == 1
    stream.cancel()
    async with asyncio.timeout(5):
        while server.authentication._streams:
            await asyncio.sleep(0.01)
