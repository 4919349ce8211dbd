"""A small real mesh for tests of Envoy's configuration: the edge and some sidecars, with stand-ins for the processes
behind them."""

import asyncio
import json
import shutil
import ssl
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from google.api import httpbody_pb2
from google.protobuf.message import Message
from grpc import aio
from grpc_health.v1 import health_pb2

from mesh.contract import Contract
from mesh.local.authority import MeshAuthorities
from mesh.local.infra import Infra
from mesh.local.ports import free_port
from mesh.model.mesh import Mesh
from mesh.render.envoy import Address, Placement, TokenRules, render
from mesh.rpc.channel import OPTIONS
from tests.kit.protocols import Client, open_clients

TOKENS = TokenRules(issuer="https://issuer.test", audience="authmesh", jwks_cache=1)
ORIGIN = "https://app.test"
JWKS = "/authmesh.token.v1.TokenService/GetJwks"
HEALTH = "/grpc.health.v1.Health/Check"
PATIENCE = 15.0


class Signer:
    """Makes access tokens and the JWKS that verifies them."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def jwks(self) -> bytes:
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key()))
        return json.dumps({"keys": [{**public, "kid": "k1", "alg": "ES256", "use": "sig"}]}).encode()

    def token(self, **claims: Any) -> str:
        """A good token, but for the claims given."""
        now = int(time.time())
        good = {"iss": TOKENS.issuer, "aud": TOKENS.audience, "sub": "u1", "iat": now, "exp": now + 600}
        return jwt.encode({**good, **claims}, self._key, algorithm="ES256", headers={"kid": "k1", "typ": "at+jwt"})


@dataclass(frozen=True)
class Heard:
    """A call that reached a process."""

    path: str
    metadata: Mapping[str, str | bytes]


Behaviour = Callable[["aio.ServicerContext[Any, Any]"], Any]
"""Of a unary RPC a coroutine function, of a stream a generator."""


@dataclass
class StandIn:
    """In place of a process: answers every RPC with what the test set for it, by default an empty message."""

    socket: Path
    contract: Contract
    answers: dict[str, Sequence[Message] | Behaviour] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    _server: aio.Server | None = None

    async def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self._server = aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        self._server.add_insecure_port(f"unix:{self.socket}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
        self.socket.unlink(missing_ok=True)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        path, stand_in = handler_call_details.method, self._stand_in
        metadata = dict(handler_call_details.invocation_metadata or ())

        async def unary(request: bytes, context: "aio.ServicerContext[Any, Any]") -> bytes:
            if path == HEALTH:
                return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString()
            if path != JWKS:
                stand_in.heard.append(Heard(path, metadata))
            answer = stand_in.answers.get(path, ())
            if callable(answer):
                answered: Message = await answer(context)
                return answered.SerializeToString()
            return answer[0].SerializeToString() if answer else b""

        async def stream(request: bytes, context: "aio.ServicerContext[Any, Any]") -> AsyncIterator[bytes]:
            stand_in.heard.append(Heard(path, metadata))
            answer = stand_in.answers.get(path, ())
            if callable(answer):
                async with aclosing(answer(context)) as messages:
                    async for message in messages:
                        yield message.SerializeToString()
            else:
                for message in answer:
                    yield message.SerializeToString()

        rpc = stand_in.contract.rpcs.get(path)
        if rpc is not None and rpc.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)


class Chain:
    """The running mesh."""

    def __init__(
        self,
        folder: Path,
        mesh: Mesh,
        contract: Contract,
        running: Sequence[str],
        rate_limit_factor: int,
        *,
        reload: bool,
    ) -> None:
        self.mesh, self.contract, self.folder = mesh, contract, folder
        self._rate_limit_factor, self._reload = rate_limit_factor, reload
        self.signer = Signer()
        self.gateway = mesh.virtual_gateway.name
        self.addresses = {name: Address("127.0.0.1", free_port()) for name in (*mesh.nodes, self.gateway)}
        self.authorities = MeshAuthorities.load_or_create(
            folder / "authority", folder / "certificates", mesh.spiffe_ids
        )
        self.processes = {node: StandIn(folder / f"{node}.sock", contract) for node in running}
        self.processes["token"].answers[JWKS] = [
            httpbody_pb2.HttpBody(content_type="application/json", data=self.signer.jwks)
        ]
        self._envoys: dict[str, asyncio.subprocess.Process] = {}

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.addresses[self.gateway].port}"

    @property
    def edge(self) -> tuple[str, int]:
        """The edge's TCP address."""
        address = self.addresses[self.gateway]
        return address.host, address.port

    def placement(self, name: str) -> Placement:
        """Where an Envoy is. `token-2` is a second sidecar of the process of `token`."""
        folder, node = self.folder / name, name.partition("-")[0]
        is_gateway = node == self.gateway
        return Placement(
            config=folder,
            certificates=self.authorities.certificates(node),
            admin_socket=folder / "admin.sock",
            access_log=folder / "access.log",
            # Both forms are to be seen working.
            reload=is_gateway or self._reload,
            nodes={name: address for name, address in self.addresses.items() if name in self.mesh.nodes},
            ingress=None if is_gateway else self.addresses[name],
            service_socket=None if is_gateway else self.folder / f"{node}.sock",
            egress_socket=None if is_gateway else folder / "egress.sock",
            listener=self.addresses[node] if is_gateway else None,
            rate_limit_factor=self._rate_limit_factor,
            public_certificates=self.authorities.public_certificates if is_gateway else None,
            cors_origins=(ORIGIN,),
        )

    def write(self, name: str) -> Path:
        """Writes the configuration of an Envoy; returns its folder."""
        if name not in self.addresses:
            self.addresses[name] = Address("127.0.0.1", free_port())
        placement = self.placement(name)
        placement.config.mkdir(exist_ok=True)
        for file, text in render(self.mesh, self.contract, name.partition("-")[0], placement, TOKENS).items():
            (placement.config / file).write_text(text)
        return placement.config

    async def start(self, node: str) -> None:
        """Starts the Envoy of a node and waits until it takes traffic."""
        folder = self.write(node)
        command = [
            str(Infra.find().envoy),
            "-c",
            str(folder / "bootstrap.yaml"),
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "-l",
            "warning",
        ]
        command += ["--file-flush-interval-msec", "50"]
        with (folder / "envoy.log").open("ab") as log:
            process = self._envoys[node] = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)

        async def ready() -> bool:
            assert process.returncode is None, (folder / "envoy.log").read_text()[-2000:]
            return await self.admin(node, "GET", "/ready") == "LIVE"

        await eventually(ready)

    async def stop(self, node: str) -> None:
        process = self._envoys.pop(node, None)
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def admin(self, node: str, method: str, path: str) -> str:
        """Asks a node's admin interface; empty while there is none."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.placement(node).admin_socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            try:
                return (await client.request(method, path)).text.strip()
            except httpx.TransportError:
                return ""

    async def has_fetched_keys(self, node: str) -> bool:
        """Whether the JWKS was fetched in the background."""
        stats = await self.admin(node, "GET", "/stats?filter=jwks_fetch_success")
        return any(line.rpartition(":")[2].strip() != "0" for line in stats.splitlines())

    def open_clients(self) -> "AbstractAsyncContextManager[dict[str, Client]]":
        """New clients of the edge, by protocol."""
        return open_clients(self.url, self.authorities.public_certificates / "ca.crt")

    def client_context(self) -> ssl.SSLContext:
        """What a client of the edge trusts."""
        return ssl.create_default_context(cafile=str(self.authorities.public_certificates / "ca.crt"))

    def http(self, **options: Any) -> httpx.AsyncClient:
        """A plain client of the edge."""
        return httpx.AsyncClient(verify=self.client_context(), base_url=self.url, timeout=PATIENCE, **options)

    async def as_peer(
        self, certificates: Path, node: str, path: str, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """One gRPC call to the ingress of a node, with somebody's mesh certificate and an empty message."""
        context = ssl.create_default_context(cafile=str(self.authorities.certificates(node) / "ca.crt"))
        # Mesh certificates name no host; whom we dial is of no concern here.
        context.check_hostname = False
        context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
        address = self.addresses[node]
        async with httpx.AsyncClient(
            verify=context, http1=False, http2=True, base_url=f"https://{address.host}:{address.port}"
        ) as client:
            sent = {"content-type": "application/grpc", "te": "trailers", **(headers or {})}
            return await client.post(path, content=struct.pack(">BI", 0, 0), headers=sent)

    @asynccontextmanager
    async def egress(self, node: str) -> AsyncIterator[aio.Channel]:
        """The channel that the process of a node has."""
        async with aio.insecure_channel(f"unix:{self.placement(node).egress_socket}", OPTIONS) as channel:
            yield channel

    def logged(self, node: str) -> list[dict[str, Any]]:
        """The access log of a node."""
        return [json.loads(line) for line in self.placement(node).access_log.read_text().splitlines()]


@asynccontextmanager
async def running(
    mesh: Mesh, contract: Contract, nodes: Sequence[str], *, rate_limit_factor: int = 1, reload: bool = False
) -> AsyncIterator[Chain]:
    """The edge and the sidecars of `nodes`, up, with the JWKS fetched.

    Args:
        mesh: What they are rendered from.
        contract: Of its services.
        nodes: Those that run.
        rate_limit_factor: Multiplies the limits of the edge.
        reload: Whether sidecars read their files again, as the edge does in any case.
    """
    # A short path: sockets have at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="envoys-"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        chain = Chain(folder, mesh, contract, nodes, rate_limit_factor, reload=reload)
        chain.authorities.issue([*mesh.nodes, chain.gateway])
        for process in chain.processes.values():
            stack.push_async_callback(process.stop)
            await process.start()
        for node in (*nodes, chain.gateway):
            stack.push_async_callback(chain.stop, node)
        await asyncio.gather(*(chain.start(node) for node in (*nodes, chain.gateway)))
        # Keys that a call had to fetch by itself are forgotten when they are old; those that were fetched in the
        # background are not.
        for node in (*nodes, chain.gateway):
            await eventually(partial(chain.has_fetched_keys, node))
        yield chain


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Waits until something holds; fails the test when it never does."""
    deadline = time.monotonic() + PATIENCE
    while not await holds():
        assert time.monotonic() < deadline, "it never came to be"
        await asyncio.sleep(0.02)
