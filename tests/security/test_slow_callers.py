"""Callers without a deadline who send slowly, read slowly or never end: each bound of mesh.yaml and of a listener is seen binding."""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from authmesh.resource.v1 import resource_service_pb2
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from grpc import aio

from mesh.contract import Contract
from mesh.model import DEFAULT_FILE, Mesh, load_mesh
from tests.conftest import held
from tests.e2e.protocols import method
from tests.integration.mesh.envoy_chain import Chain, eventually, running
from tests.security.raw_http2 import Connection, Field, call, connected, frame, grpc_head

REVOKE, WATCH = method("TokenService/RevokeToken"), method("ResourceService/WatchResources")


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


async def test_a_call_that_is_never_answered_ends_in_time_at_every_hop(chain: Chain, public: ssl.SSLContext, peer: ssl.SSLContext) -> None:
    async def never(_: "aio.ServicerContext[Any, Any]") -> Message:
        await asyncio.Event().wait()
        return empty_pb2.Empty()

    async def ends(address: tuple[str, int] | str, context: ssl.SSLContext | None, protocol: str, *fields: Field) -> None:
        started = time.monotonic()
        answer = await call(address, context, protocol, REVOKE, *fields)
        assert answer.status == "DEADLINE_EXCEEDED"
        # A sidecar tells the process how long it has, and grpc core, which ends the call in the same moment, gives no reason.
        assert answer.reason == "DEADLINE" or address == chain.addresses["token"]
        assert 0.9 < time.monotonic() - started < 4

    chain.processes["token"].answers[REVOKE.path] = never
    try:
        for fields in ((), (("grpc-timeout", "1H"),)):
            await asyncio.gather(
                *(ends(chain.addresses["edge"], public, protocol, *fields) for protocol in ("grpc", "grpc-web", "json")),
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

    async def let_go() -> bool:
        return await under_way(chain, "edge", "edge") == 0 and await under_way(chain, "resource", "ingress") == 0

    await eventually(let_go)
