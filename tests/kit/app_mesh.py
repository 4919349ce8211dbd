"""A mesh of App Mesh's manifests that runs: real Envoys, and processes that do what a test says."""

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from aiohttp import web
from grpc import aio

from mesh.appmesh import envoy, manifest, mesh_yaml
from mesh.appmesh.model import AppMesh, VirtualGateway, VirtualNode
from mesh.local.authority import MeshAuthorities
from mesh.local.infra import Infra
from mesh.local.ports import free_port
from mesh.render.envoy import Address
from mesh.spiffe import SpiffeIds
from tests.kit.envoy_chain import eventually

SAMPLES = Path(__file__).parent / "appmesh_samples"
Answer = Callable[["aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]]
MIX, LIST = "/paint.Palette/Mix", "/paint.Palette/List"


async def empty(context: "aio.ServicerContext[bytes, bytes]") -> bytes:
    return b""


@dataclass
class GrpcProcess:
    """Answers every RPC as the test says."""

    address: Address
    answer: Answer = empty
    heard: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, process: GrpcProcess) -> None:
        self._process = process

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        path, metadata = handler_call_details.method, dict(handler_call_details.invocation_metadata or ())

        async def unary(request: bytes, context: "aio.ServicerContext[bytes, bytes]") -> bytes:
            self._process.heard.append((path, metadata))
            return await self._process.answer(context)

        return grpc.unary_unary_rpc_method_handler(unary)


@asynccontextmanager
async def grpc_process(host: str = "127.0.0.1") -> AsyncIterator[GrpcProcess]:
    """A process of its own on a free port."""
    process = GrpcProcess(Address(host, free_port()))
    server = aio.server()
    server.add_generic_rpc_handlers((_Handlers(process),))
    server.add_insecure_port(f"{process.address.host}:{process.address.port}")
    await server.start()
    try:
        yield process
    finally:
        await server.stop(None)


@asynccontextmanager
async def _http_process() -> AsyncIterator[Address]:
    """Tells what it was asked."""

    async def echo(request: web.Request) -> web.Response:
        return web.json_response({"host": request.host, "path": request.path, "headers": dict(request.headers)})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    address = Address("127.0.0.1", free_port())
    await web.TCPSite(runner, address.host, address.port).start()
    try:
        yield address
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _tcp_process() -> AsyncIterator[Address]:
    """Sends back what it is sent."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    address = Address("127.0.0.1", free_port())
    server = await asyncio.start_server(echo, address.host, address.port)
    try:
        yield address
    finally:
        server.close()


@dataclass
class Running:
    """The mesh."""

    mesh: AppMesh
    report: manifest.Report
    folder: Path
    certificates: Path
    places: dict[str, envoy.Place]
    processes: dict[str, GrpcProcess]

    def egress(self, node: str, port: int) -> Address:
        """Where the process of a node dials virtual services."""
        return (self.places[node].egress or {})[port]

    def ingress(self, node: str, port: int) -> Address:
        """Where an Envoy listens."""
        return (self.places[node].ingress or {})[port]

    async def stat(self, node: str, name: str) -> int:
        """The sum of an Envoy's statistics whose name ends so."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.places[node].admin_socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            lines = (await client.get("/stats")).text.splitlines()
        return sum(int(line.rpartition(":")[2]) for line in lines if line.partition(":")[0].endswith(name))


@asynccontextmanager
async def running(
    sample: str,
    *,
    changed: Mapping[str, str] | None = None,
    endpoints: Mapping[str, Sequence[Address]] | None = None,
) -> AsyncIterator[Running]:
    """Imports a sample, and runs it.

    Args:
        sample: The file's name.
        changed: Texts of it, and what stands there instead.
        endpoints: Of nodes, where they are others than their Envoys.
    """
    folder = Path(tempfile.mkdtemp(prefix="paint-"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        authorities = MeshAuthorities.load_or_create(folder / "a", folder / "certificates", SpiffeIds("paint"))
        authorities.issue(("easel", "palette", "stranger"))
        certificates = folder / "certificates"
        mesh, report = _imported(sample, folder, changed or {})
        envoys: list[VirtualNode | VirtualGateway] = [*mesh.virtual_nodes, *mesh.virtual_gateways]
        ports = {
            one.name: {listener.port_mapping.port: Address("127.0.0.1", free_port()) for listener in one.listeners}
            for one in envoys
        }
        found = Running(mesh, report, folder, certificates, {}, {})
        for node in mesh.virtual_nodes:
            process = {}
            for listener in node.listeners:
                mapping = listener.port_mapping
                match mapping.protocol:
                    case "grpc":
                        started = await stack.enter_async_context(grpc_process())
                        found.processes[node.name] = started
                        process[mapping.port] = started.address
                    case "tcp":
                        process[mapping.port] = await stack.enter_async_context(_tcp_process())
                    case _:
                        process[mapping.port] = await stack.enter_async_context(_http_process())
            found.places[node.name] = envoy.Place(process=process)
        where = {
            (name, port): (endpoints or {}).get(name, [address])
            for name, listening in ports.items()
            for port, address in listening.items()
        }
        called = {9090, 8080, 80, 5432}
        for one in envoys:
            config = folder / one.name
            config.mkdir()
            process = dict(found.places[one.name].process) if one.name in found.places else {}
            found.places[one.name] = envoy.Place(
                config,
                config / "admin",
                folder / "sds",
                ports[one.name],
                {port: Address("127.0.0.1", free_port()) for port in called},
                process,
                where,
            )
            await _start(stack, mesh, one, found.places[one.name])
        yield found


def _imported(sample: str, folder: Path, changed: Mapping[str, str]) -> tuple[AppMesh, manifest.Report]:
    """By way of mesh.yaml, as people do it."""
    text = (SAMPLES / sample).read_text()
    for before, after in changed.items():
        assert before in text
        text = text.replace(before, after)
    own = text.replace("CERTIFICATES/ca.crt", "CERTIFICATES/easel/ca.crt")
    source = folder / sample
    source.write_text(own.replace("CERTIFICATES", str(folder / "certificates")))
    mesh, report = manifest.read([source])
    written = folder / "mesh.yaml"
    written.write_text(
        mesh_yaml.text(mesh)
        .replace(f"{manifest.CERTIFICATES}/palette.crt", f"{folder}/certificates/palette/tls.crt")
        .replace(f"{manifest.CERTIFICATES}/palette.key", f"{folder}/certificates/palette/tls.key")
    )
    return mesh_yaml.load(written), report


async def _start(stack: AsyncExitStack, mesh: AppMesh, one: VirtualNode | VirtualGateway, place: envoy.Place) -> None:
    for name, text in envoy.render(mesh, one.name, place).items():
        (place.config / name).write_text(text)
    command = [str(Infra.find().envoy), "-c", str(place.config / "bootstrap.yaml"), "--concurrency", "1"]
    log = stack.enter_context((place.config / "envoy.log").open("ab"))
    process = await asyncio.create_subprocess_exec(
        *command, "--disable-hot-restart", "-l", "warning", stdout=log, stderr=log
    )

    async def stop() -> None:
        if process.returncode is None:
            process.kill()
            await process.wait()

    stack.push_async_callback(stop)

    async def ready() -> bool:
        assert process.returncode is None, (place.config / "envoy.log").read_text()[-2000:]
        transport = httpx.AsyncHTTPTransport(uds=str(place.admin_socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            try:
                return (await client.get("/ready")).text.strip() == "LIVE"
            except httpx.TransportError:
                return False

    await eventually(ready)


async def call(
    address: Address, authority: str, path: str = LIST, metadata: Sequence[tuple[str, str]] = (), timeout: float = 15
) -> grpc.StatusCode:
    """How a call ends."""
    options = [("grpc.default_authority", authority), ("grpc.enable_retries", 0)]
    async with aio.insecure_channel(f"{address.host}:{address.port}", options) as channel:
        unary: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        try:
            await unary(b"", metadata=tuple(metadata), timeout=timeout)
        except aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def calls(count: int, address: Address, authority: str, path: str = LIST) -> Counter[grpc.StatusCode]:
    """How many calls at once end in what way."""
    return Counter(await asyncio.gather(*(call(address, authority, path) for _ in range(count))))
