"""Callers without a deadline who send slowly, read slowly or never end: each bound of mesh.yaml and of a listener is
seen binding."""

import asyncio
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from authmesh.resource.v1 import resource_service_pb2
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from grpc import aio

from mesh.contract import Contract
from mesh.model.mesh import DEFAULT_FILE, Mesh, load_mesh
from mesh.render.envoy import listener
from tests.conftest import held
from tests.kit.envoy_chain import Chain, eventually, running
from tests.kit.protocols import from_trailers, method
from tests.kit.raw_http2 import Connection, Field, call, connected, frame, grpc_head

REVOKE, WATCH, LIST = (
    method(name)
    for name in ("TokenService/RevokeToken", "ResourceService/WatchResources", "ResourceService/ListResources")
)


def hurried(folder: Path) -> Mesh:
    """The mesh with a second in place of each timeout of a route."""
    text, changed = re.subn(r"(perRequest|idle|perRetryTimeout): \d+s", r"\1: 1s", DEFAULT_FILE.read_text())
    assert changed == 3
    file = folder / "mesh.yaml"
    file.write_text(text)
    return load_mesh(file)


@pytest.fixture(scope="module")
async def chain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chain]:
    mesh = hurried(tmp_path_factory.mktemp("hurried"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HEADERS_TIMEOUT", "REQUEST_TIMEOUT", "FLUSH_TIMEOUT"):
            patch.setattr(listener, name, timedelta(seconds=1))
        patch.setattr(listener, "IDLE", "1s")
        async with held(running(mesh, Contract.load(), ["auth", "token", "resource"])) as found:
            yield found


@pytest.fixture
def public(chain: Chain) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(chain.authorities.public_certificates / "ca.crt"))


@pytest.fixture
def peer(chain: Chain) -> ssl.SSLContext:
    """The edge's identity."""
    certificates = chain.authorities.certificates("edge")
    context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    context.check_hostname = False
    context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
    return context


async def under_way(chain: Chain, node: str, listener: str) -> int:
    """The requests that a listener holds."""
    stats = await chain.admin(node, "GET", f"/stats?filter=^http.{listener}.downstream_rq_active$")
    return int(stats.rpartition(":")[2])


async def let_go(chain: Chain) -> bool:
    """Whether neither the edge nor a sidecar holds a request."""
    return await under_way(chain, "edge", "edge") == 0 and await under_way(chain, "resource", "ingress") == 0


async def test_a_call_that_is_never_answered_ends_in_time_at_every_hop(
    chain: Chain, public: ssl.SSLContext, peer: ssl.SSLContext
) -> None:
    async def never(_: "aio.ServicerContext[Any, Any]") -> Message:
        await asyncio.Event().wait()
        return empty_pb2.Empty()

    async def ends(
        address: tuple[str, int] | str, context: ssl.SSLContext | None, protocol: str, *fields: Field
    ) -> None:
        started = time.monotonic()
        answer = await call(address, context, protocol, REVOKE, *fields)
        assert answer.status == "DEADLINE_EXCEEDED"
        # Sidecars tell the process how long it has, and grpc core, which ends the call in the same moment, gives no
        # reason: that answer may come first to callers inside the mesh (`from_rpc_error` reads it as DEADLINE).
        assert answer.reason == "DEADLINE" or address != chain.addresses["edge"]
        assert 0.9 < time.monotonic() - started < 4

    chain.processes["token"].answers[REVOKE.path] = never
    try:
        for fields in ((), (("grpc-timeout", "1H"),)):
            await asyncio.gather(
                *(
                    ends(chain.addresses["edge"], public, protocol, *fields)
                    for protocol in ("grpc", "grpc-web", "connect", "json")
                ),
                ends(chain.addresses["token"], peer, "grpc", *fields),
                ends(str(chain.placement("auth").egress_socket), None, "grpc", *fields),
            )
    finally:
        del chain.processes["token"].answers[REVOKE.path]
    assert await under_way(chain, "edge", "edge") == 0


async def watching(chain: Chain, connection: Connection) -> Any:
    token = ("authorization", f"Bearer {chain.signer.token()}")
    stream = await connection.open(grpc_head(WATCH.path, token))
    await connection.send(stream, frame(b""), end=True)
    return stream


async def test_a_stream_on_which_nothing_moves_ends(chain: Chain, public: ssl.SSLContext) -> None:
    async def silent(_: "aio.ServicerContext[Any, Any]") -> AsyncIterator[Message]:
        yield resource_service_pb2.WatchResourcesResponse(resume_token="a")
        await asyncio.Event().wait()

    chain.processes["resource"].answers[WATCH.path] = silent
    async with connected(chain.addresses["edge"], public) as connection:
        stream = await watching(chain, connection)
        await stream.end(within=5)
    assert b"a" in stream.body


async def test_a_stream_with_heartbeats_goes_on(chain: Chain, public: ssl.SSLContext) -> None:
    async def alive(_: "aio.ServicerContext[Any, Any]") -> AsyncIterator[Message]:
        for number in range(8):
            yield resource_service_pb2.WatchResourcesResponse(resume_token=f"{number}")
            await asyncio.sleep(0.4)

    chain.processes["resource"].answers[WATCH.path] = alive
    async with connected(chain.addresses["edge"], public) as connection:
        stream = await (await watching(chain, connection)).end()
    assert stream.answered
    assert stream.headers["grpc-status"] == "0"


async def test_a_stream_that_nobody_reads_ends_and_its_handler_with_it(chain: Chain, public: ssl.SSLContext) -> None:
    ended = asyncio.Event()

    async def plenty(_: "aio.ServicerContext[Any, Any]") -> AsyncIterator[Message]:
        try:
            while True:
                yield resource_service_pb2.WatchResourcesResponse(resume_token="x" * 100_000)
        finally:
            ended.set()

    chain.processes["resource"].answers[WATCH.path] = plenty
    async with connected(chain.addresses["edge"], public, read=False) as connection:
        await watching(chain, connection)
        async with asyncio.timeout(10):
            await ended.wait()

    await eventually(lambda: let_go(chain))


# Those who send slowly


def doors(
    chain: Chain, public: ssl.SSLContext, peer: ssl.SSLContext
) -> dict[str, tuple[tuple[str, int] | str, ssl.SSLContext | None]]:
    """Every listener, and what a caller needs to get in."""
    return {
        "edge": (chain.addresses["edge"], public),
        "ingress": (chain.addresses["token"], peer),
        "egress": (str(chain.placement("auth").egress_socket), None),
    }


@pytest.mark.parametrize("door", ["edge", "ingress", "egress"])
async def test_a_request_that_does_not_come_to_its_end_is_ended(
    chain: Chain, public: ssl.SSLContext, peer: ssl.SSLContext, door: str
) -> None:
    async with connected(*doors(chain, public, peer)[door]) as connection:
        # Of a unary method and of a stream; nothing, and a byte now and then.
        for path in (REVOKE.path, WATCH.path) if door == "edge" else (REVOKE.path,):
            stream = await connection.open(grpc_head(path, ("authorization", f"Bearer {chain.signer.token()}")))
            started = time.monotonic()
            await connection.send(stream, frame(bytes(1000))[:5])
            while not stream.done.is_set() and time.monotonic() - started < 5:
                await connection.send(stream, b"\0")
                await asyncio.sleep(0.2)
            assert stream.done.is_set()
            assert time.monotonic() - started > 0.9
            # On a busy machine the process's own clock (grpc core's, which knows no reasons) may be first.
            outcome = from_trailers(stream.headers).outcome
            assert outcome == ("DEADLINE_EXCEEDED", "DEADLINE") or (door, outcome) == (
                "egress",
                ("DEADLINE_EXCEEDED", ""),
            )


@pytest.mark.parametrize("version", ["http/1.1", "h2"])
async def test_headers_that_do_not_come_to_their_end_are_not_waited_for(
    chain: Chain, public: ssl.SSLContext, version: str
) -> None:
    public.set_alpn_protocols([version])
    reader, writer = await asyncio.open_connection(*chain.addresses["edge"], ssl=public)
    if version == "h2":
        # A frame of headers without END_HEADERS, and no continuation.
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("00000004000000000000000101000000000183"))
    else:
        writer.write(b"GET /v1/resources HTTP/1.1\r\nhost: mesh\r\n")
    answer = b""
    async with asyncio.timeout(5):
        while b'"DEADLINE"' not in answer:
            answer += (data := await reader.read(65536))
            assert data, answer
    writer.close()


@pytest.mark.parametrize("version", ["http/1.1", "h2"])
async def test_a_connection_on_which_nothing_is_asked_is_closed(
    chain: Chain, public: ssl.SSLContext, version: str
) -> None:
    public.set_alpn_protocols([version])
    reader, writer = await asyncio.open_connection(*chain.addresses["edge"], ssl=public)
    async with asyncio.timeout(5):
        while await reader.read(65536):
            pass
    writer.close()


async def test_a_connection_without_a_tls_handshake_is_closed(chain: Chain) -> None:
    reader, writer = await asyncio.open_connection(*chain.addresses["edge"])
    writer.write(b"\x16\x03\x01")
    async with asyncio.timeout(15):
        assert await reader.read() == b""
    writer.close()


# Those who don't read


@pytest.mark.parametrize("protocol", ["grpc", "json"])
async def test_an_answer_that_nobody_reads_is_not_kept(chain: Chain, public: ssl.SSLContext, protocol: str) -> None:
    chain.processes["resource"].answers[LIST.path] = [
        resource_service_pb2.ListResourcesResponse(next_page_token="x" * 1_000_000)
    ]
    token = ("authorization", f"Bearer {chain.signer.token()}")
    try:
        async with connected(chain.addresses["edge"], public, read=False) as connection:
            if protocol == "grpc":
                stream = await connection.request(grpc_head(LIST.path, token), frame(b""))
            else:
                stream = await connection.request(
                    grpc_head("/v1/resources", (":method", "GET"), ("content-type", None), ("te", None), token)
                )
            await stream.end(within=5)
        assert stream.reset
        assert 0 < len(stream.body) < 100_000
    finally:
        del chain.processes["resource"].answers[LIST.path]

    await eventually(lambda: let_go(chain))


async def test_an_answer_over_http_1_that_nobody_reads_is_not_kept(chain: Chain, public: ssl.SSLContext) -> None:
    chain.processes["resource"].answers[LIST.path] = [
        resource_service_pb2.ListResourcesResponse(next_page_token="x" * 3_000_000)
    ]
    plain = socket.socket()
    # The kernel would take all of it.
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(plain, tuple(chain.addresses["edge"]))
        # A limit of one byte: the stream stops reading at once.
        _, writer = await asyncio.open_connection(sock=plain, ssl=public, server_hostname="127.0.0.1", limit=1)
        request = f"GET /v1/resources HTTP/1.1\r\nhost: mesh\r\nauthorization: Bearer {chain.signer.token()}\r\n\r\n"
        writer.write(request.encode())
        await eventually(lambda: taken_up(chain))
        await eventually(lambda: let_go(chain))
        writer.close()
    finally:
        del chain.processes["resource"].answers[LIST.path]


async def taken_up(chain: Chain) -> bool:
    return await under_way(chain, "edge", "edge") > 0
