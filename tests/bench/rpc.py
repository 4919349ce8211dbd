"""What a token adds to a call: directly at the process, through its sidecar, and through edge and sidecar."""

import asyncio
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
from authmesh.token.v1 import token_service_pb2
from grpc import aio

from mesh.contract import Contract
from mesh.model.mesh import load_mesh
from mesh.rpc.channel import OPTIONS
from tests.bench.load import Borne, Call, bear
from tests.bench.report import Samples, Table
from tests.kit.envoy_chain import Chain, eventually
from tests.kit.envoy_chain import running as running_chain
from tests.kit.protocols import method
from tests.kit.tokens import Mint

IN_FLIGHT = 16
REVOKE, LIST = method("TokenService/RevokeToken").path, method("TokenService/ListSessions").path


async def measure(seconds: float, rounds: int) -> Table:
    """Calls of empty handlers without a token, with one that nobody reads, and with one that is checked, in turn."""
    mint = Mint()
    token = mint.token(scope="session:manage")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        jwks = folder / "jwks"
        jwks.write_bytes(await mint.jwks())
        chain = await stack.enter_async_context(
            running_chain(load_mesh(), Contract.load(), ["token"], rate_limit_factor=10_000)
        )
        socket = chain.processes["token"].socket
        await chain.processes["token"].stop()
        service = await start_service(stack, str(socket), str(jwks))
        unguarded = await start_service(stack, f"{folder}/open", str(jwks), "open")
        bare, bare_pid = await stack.enter_async_context(bare_handler())
        pids = {
            "service": service.pid,
            "open": unguarded.pid,
            **{name: process.pid for name, process in chain._envoys.items()},
        }
        direct = await stack.enter_async_context(aio.insecure_channel(f"unix:{socket}", options=OPTIONS))
        sidecar = await stack.enter_async_context(_peer(chain))
        edge = await stack.enter_async_context(_edge(chain))
        without = await stack.enter_async_context(aio.insecure_channel(f"unix:{folder}/open", options=OPTIONS))
        sessions = token_service_pb2.ListSessionsRequest(parent="users/me").SerializeToString()
        public = token_service_pb2.RevokeTokenRequest(token="x").SerializeToString()
        paths = {
            "direct": (direct, [pids["service"]]),
            "one sidecar": (sidecar, [pids["service"], pids["token"]]),
            "edge and sidecar": (edge, [pids["service"], pids["token"], pids["edge"]]),
        }
        rows = []
        for name, (channel, processes) in paths.items():
            pair = {
                "none": (_call(channel, REVOKE, public, None), processes),
                "unread": (_call(channel, REVOKE, public, token), processes),
                "checked": (_call(channel, LIST, sessions, token), processes),
            }
            if channel is direct:
                pair = {"bare": (bare, [bare_pid]), **pair}
                pair["none"] = (_call(without, LIST, sessions, None), [pids["open"]])
                pair["unread"] = (_call(without, LIST, sessions, token), [pids["open"]])
            await eventually(partial(admitted, pair["checked"][0]))
            await eventually(partial(admitted, pair["none"][0]))
            found: dict[str, list[Borne]] = {kind: [] for kind in pair}
            for call, pids_of in pair.values():
                await bear([call] * IN_FLIGHT, seconds / 4, pids_of)
            for _ in range(rounds):
                for kind, (call, pids_of) in pair.items():
                    found[kind].append(await bear([call] * IN_FLIGHT, seconds, pids_of))
            rows += _rows(name, found)
    return Table("rpc", "A unary call with and without a token, empty handlers", (
        "path", "token", "calls/s", "CPU us a call, service", "x bare", "CPU us a call, all",
        "added by checking, service", "by the token, service", "by the token, all",
    ), rows, (
        (f"{IN_FLIGHT} calls in flight on one connection from one grpc.aio client. The token is "
        f"remembered: the path of every call but its first."),
        ("Bare: the same handler on grpc.aio without our interceptor, in a process beside it. x bare: a "
        "row's CPU as a multiple of it, round by round."),
        ("Direct: one method of two services, one of which has no authentication stage. Through "
        "Envoy: a public method and one that wants a token."),
        ("Unread: the token is sent where nobody looks at it. What it costs then is the header's way "
        "through HTTP/2: some 700 bytes at each hop."),
        ("Added by checking: (checked - unread) / unread. Added by the token: (checked - none) / "
        "none. Medians over the rounds."),
    ))  # fmt: skip


def _rows(path: str, found: dict[str, list[Borne]]) -> list[Sequence[object]]:
    own = {kind: [1e6 * one.cpu[0] / one.calls for one in borne] for kind, borne in found.items()}
    everything = {kind: [one.microseconds for one in borne] for kind, borne in found.items()}

    def added(costs: dict[str, list[float]], to: str) -> str:
        return (
            f"{Samples([100 * (more - less) / less for less, more in zip(costs[to], costs['checked'], strict=True)])} %"
        )

    return [
        (path, kind, Samples([one.rate for one in borne]), Samples(own[kind]),
         Samples([cost / least for least, cost in zip(own["bare"], own[kind], strict=True)]) if "bare" in own else "",
         Samples(everything[kind]),
         *((added(own, "unread"), added(own, "none"), added(everything, "none")) if kind == "checked" else ("", "",
         "")))
        for kind, borne in found.items()
    ]  # fmt: skip


def _call(channel: aio.Channel, path: str, request: bytes, token: str | None) -> Call:
    stub = channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
    metadata = aio.Metadata(*([("authorization", f"Bearer {token}")] if token else []))

    async def call() -> None:
        await stub(request, metadata=metadata, timeout=10)

    return call


async def admitted(call: Call) -> bool:
    """Whether a call succeeds."""
    try:
        await call()
    except aio.AioRpcError:
        return False
    return True


async def start_service(stack: AsyncExitStack, *arguments: str) -> asyncio.subprocess.Process:
    """Starts an empty service."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.empty_service", *arguments, stdout=asyncio.subprocess.DEVNULL
    )
    stack.push_async_callback(_stop, process)
    return process


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


@asynccontextmanager
async def bare_handler() -> AsyncIterator[tuple[Call, int]]:
    """A call of an empty handler on grpc.aio as it is, and its process: what everything else is a multiple of."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        (Path(folder) / "jwks").write_bytes(await Mint().jwks())
        process = await start_service(stack, f"{folder}/s", f"{folder}/jwks", "bare")
        channel = await stack.enter_async_context(aio.insecure_channel(f"unix:{folder}/s", options=OPTIONS))
        request = token_service_pb2.ListSessionsRequest(parent="users/me").SerializeToString()
        call = _call(channel, LIST, request, None)
        await eventually(partial(admitted, call))
        yield call, process.pid


@asynccontextmanager
async def _edge(chain: Chain) -> AsyncIterator[aio.Channel]:
    credentials = grpc.ssl_channel_credentials((chain.authorities.public_certificates / "ca.crt").read_bytes())
    async with aio.secure_channel(
        f"127.0.0.1:{chain.addresses[chain.gateway].port}", credentials, options=OPTIONS
    ) as channel:
        yield channel


@asynccontextmanager
async def _peer(chain: Chain) -> AsyncIterator[aio.Channel]:
    """A channel to the sidecar's ingress with the edge's certificate. Mesh certificates name no host, which gRPC
    insists on: stunnel in asyncio."""
    certificates = chain.authorities.certificates(chain.gateway)
    context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    context.check_hostname = False
    context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
    context.set_alpn_protocols(["h2"])
    port = chain.addresses["token"].port

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = await asyncio.start_unix_server(tunnel, f"{folder}/s")
        async with aio.insecure_channel(f"unix:{folder}/s", options=OPTIONS) as channel:
            yield channel
        server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
