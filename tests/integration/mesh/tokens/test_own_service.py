"""The service of docs/services.md, compiled and run, in front of a real Valkey; only Token is a stand-in behind the
egress."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from authmesh.token.v1 import token_issuer_pb2
from google.api import httpbody_pb2
from grpc import aio
from redis.asyncio import Redis

from mesh.contract import Contract
from mesh.rpc.channel import OPTIONS
from mesh.tokens.feed import STREAM
from tests.kit.envoy_chain import JWKS, StandIn, eventually
from tests.kit.greeter import make
from tests.kit.pages import write_listing
from tests.kit.protocols import CONTRACT, GrpcClient, method
from tests.kit.refusals import described
from tests.kit.tokens import AUDIENCE, ISSUER, SESSION, SUBJECT, Mint


@pytest.fixture
async def greeter(valkey_url: str) -> AsyncIterator[tuple[GrpcClient, Mint, Contract]]:
    mint = Mint()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="own-")))
        await make(folder)
        token = StandIn(folder / "egress", CONTRACT)
        token.answers[JWKS] = [httpbody_pb2.HttpBody(data=await mint.jwks())]
        token.answers[method("TokenIssuer/GetRevocationSnapshot").path] = [
            token_issuer_pb2.GetRevocationSnapshotResponse(epoch="e")
        ]
        await token.start()
        stack.push_async_callback(token.stop)
        environment = {
            "PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "NODE": "greeter",
            "SOCKET": f"{folder}/s",
            "EGRESS": f"{folder}/egress", "REDIS_URL": valkey_url,
            "ISSUER": ISSUER,
            "AUDIENCE": AUDIENCE,
        }  # fmt: skip
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "service.py", cwd=folder, env=environment, stdout=log, stderr=asyncio.subprocess.STDOUT
            )
        file = folder / "greeter.binpb"
        channel = await stack.enter_async_context(aio.insecure_channel(f"unix:{folder}/s", options=OPTIONS))
        try:
            yield GrpcClient(channel), mint, Contract(file.read_bytes(), file)
        finally:
            process.kill()
            await process.wait()
            # The session that the test revokes is that of other tests' tokens, too.
            async with Redis.from_url(valkey_url) as redis:
                await redis.flushall()


async def test_the_listed_service_admits_good_tokens_only_and_hears_of_revocations(
    greeter: tuple[GrpcClient, Mint, Contract], valkey_url: str
) -> None:
    client, mint, contract = greeter
    rpc = contract.rpcs["/greeter.v1.Greeter/Greet"]

    async def outcome(token: str | None) -> str:
        call = client.channel.unary_unary(rpc.path, request_serializer=bytes, response_deserializer=bytes)
        metadata: Any = [("authorization", f"Bearer {token}")] if token else []
        try:
            answer: Any = contract.message_type(rpc.output_type).FromString(
                await call(b"", metadata=metadata, timeout=5)
            )
        except aio.AioRpcError as error:
            return described(error)
        return str(answer.text)

    good = mint.token()

    async def is_up() -> bool:
        return await outcome(good) == f"Hello, {SUBJECT}"

    await eventually(is_up)
    assert await outcome(None) == "UNAUTHENTICATED TOKEN_MISSING"
    assert await outcome(mint.token(aud="other")) == "UNAUTHENTICATED TOKEN_INVALID"
    assert await outcome(mint.token(scope="resource:read")) == "PERMISSION_DENIED SCOPE_MISSING"
    async with Redis.from_url(valkey_url) as redis:
        await redis.xadd(
            STREAM, {"kind": 2, "value": SESSION, "not_before": 0, "expires_at": int(time.time()) + 600}, id="1-0"
        )

    async def is_revoked() -> bool:
        return await outcome(good) == "UNAUTHENTICATED TOKEN_REVOKED"

    await eventually(is_revoked)


async def test_the_listed_test_passes_in_front_of_the_real_rules(tmp_path: Path) -> None:
    await make(tmp_path)
    write_listing("docs/services.md", tmp_path, "test_greeter.py")
    done = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "test_greeter.py",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await done.communicate()
    assert done.returncode == 0, output.decode()
