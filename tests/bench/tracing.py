"""What traces cost a call: of a process that makes none, of calls that are not traced, of one in a hundred, of all."""

import itertools
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from authmesh.token.v1 import token_service_pb2
from grpc import aio

from mesh.local.ports import free_port
from mesh.local.traces import TraceStore, serve
from mesh.rpc.channel import OPTIONS
from tests.bench.load import Borne, Call, bear
from tests.bench.report import Samples, Table
from tests.bench.rpc import IN_FLIGHT, LIST, admitted, start_service
from tests.kit.envoy_chain import eventually
from tests.kit.tokens import Mint

_TRACE, _SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def measure(seconds: float, rounds: int) -> Table:
    """Authenticated unary calls of an empty handler, in turn."""
    mint = Mint()
    token = mint.token(scope="session:manage")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        jwks = folder / "jwks"
        jwks.write_bytes(await mint.jwks())
        port = free_port()
        collector = await serve("127.0.0.1", port, TraceStore(1000))
        stack.push_async_callback(collector.cleanup)
        silent = await start_service(stack, f"{folder}/silent", str(jwks))
        told = await start_service(stack, f"{folder}/told", str(jwks), f"http://127.0.0.1:{port}/v1/traces")
        kinds: dict[str, tuple[Call, int]] = {}
        for kind, process, every in (
            ("no tracer", silent, 0),
            ("not traced", told, 0),
            ("one in a hundred", told, 100),
            ("all", told, 1),
        ):
            socket = "silent" if process is silent else "told"
            channel = await stack.enter_async_context(aio.insecure_channel(f"unix:{folder}/{socket}", options=OPTIONS))
            kinds[kind] = _call(channel, token, every), process.pid
        found: dict[str, list[Borne]] = {kind: [] for kind in kinds}
        for call, pid in kinds.values():
            await eventually(partial(admitted, call))
            await bear([call] * IN_FLIGHT, seconds / 4, [pid])
        for _ in range(rounds):
            for kind, (call, pid) in kinds.items():
                found[kind].append(await bear([call] * IN_FLIGHT, seconds, [pid]))
    costs = {kind: [one.microseconds for one in borne] for kind, borne in found.items()}
    rows = [
        (
            kind,
            Samples([one.rate for one in found[kind]]),
            Samples(own),
            f"{Samples([100 * (cost - least) / least for least, cost in zip(costs['no tracer'], own, strict=True)])} %",
        )
        for kind, own in costs.items()
    ]
    return Table("tracing", "What traces cost an authenticated unary call", (
        "calls that are traced", "calls/s", "CPU us a call, service", "added",
    ), rows, (
        f"{IN_FLIGHT} calls in flight on one connection, empty handlers, a token that is remembered.",
        "A traced call has one span here; it is sent by OTLP/HTTP to a collector that the client's process holds.",
        "Added: to a process without a tracer, round by round. The goal for one in a hundred is 5 %.",
    ))  # fmt: skip


def _call(channel: aio.Channel, token: str, every: int) -> Call:
    """Every so many calls are traced; none for 0."""
    stub = channel.unary_unary(LIST, request_serializer=bytes, response_deserializer=bytes)
    request = token_service_pb2.ListSessionsRequest(parent="users/me").SerializeToString()
    flags = itertools.cycle(["01", *["00"] * (every - 1)] if every else ["00"])

    async def call() -> None:
        traceparent = f"00-{_TRACE}-{_SPAN}-{next(flags)}"
        metadata = aio.Metadata(("authorization", f"Bearer {token}"), ("traceparent", traceparent))
        await stub(request, metadata=metadata, timeout=10)

    return call
