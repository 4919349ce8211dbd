"""A Token process with a test in the place of its sidecar, and calls of it."""

import asyncio
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from authmesh.token.v1 import (
    token_issuer_pb2,
    token_issuer_pb2_grpc,
    token_service_pb2,
    token_service_pb2_grpc,
    token_set_pb2,
)
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.rpc.channel import OPTIONS

ALICE = uuid.UUID(int=0xA11CE)


class Process:
    """A running Token, and calls of it as the mesh would make them."""

    def __init__(self, channel: aio.Channel, variables: dict[str, str], process: asyncio.subprocess.Process) -> None:
        self.channel = channel
        self.socket = variables["SOCKET"]
        self.database_url = variables["DATABASE_URL"]
        self.process = process
        self.tokens = token_service_pb2_grpc.TokenServiceStub(channel)
        self.issuer = token_issuer_pb2_grpc.TokenIssuerStub(channel)

    async def sign_in(self, subject: uuid.UUID = ALICE, **fields: Any) -> token_set_pb2.TokenSet:
        request = token_issuer_pb2.IssueTokensRequest(
            subject=str(subject), client_id="demo", amr=["pwd"], address="192.0.2.7", **fields
        )
        request.auth_time.GetCurrentTime()
        return await self.issuer.IssueTokens(request, metadata=by("auth"))

    async def admin(self, subject: uuid.UUID) -> token_set_pb2.TokenSet:
        grants = token_issuer_pb2.SetSubjectGrantsRequest(subject=str(subject), roles=["admin"], version=1)
        await self.issuer.SetSubjectGrants(grants, metadata=by("user"))
        return await self.sign_in(subject)


def by(node: str, token: str = "") -> aio.Metadata:
    """What a sidecar forwards."""
    pairs = [("x-forwarded-client-cert", f"URI=spiffe://authmesh/{node}"), ("x-envoy-external-address", "198.51.100.9")]
    return aio.Metadata(*pairs, *([("authorization", f"Bearer {token}")] if token else []))


async def reason(call: Awaitable[Any]) -> str:
    """OK, or status, reason and the fields at fault."""
    try:
        await call
    except aio.AioRpcError as error:
        details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        for detail in status_pb2.Status.FromString(bytes(details)).details:
            detail.Unpack(info)
            detail.Unpack(bad)
        return " ".join([error.code().name, info.reason, *(item.field for item in bad.field_violations)])
    return "OK"


async def eventually(call: Callable[[], Awaitable[str]], expected: str) -> float:
    """Asks until the answer is the expected one. Returns how long that took, in seconds."""
    started = time.monotonic()
    async with asyncio.timeout(5):
        while await call() != expected:
            await asyncio.sleep(0.002)
    return time.monotonic() - started


def environment(directory: Path, database_url: str, redis_url: str) -> dict[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    (directory / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (directory / "secret").write_bytes(os.urandom(32))
    (directory / "secret").chmod(0o600)
    return {
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
        "NODE": "token",
        "SOCKET": str(directory / "s"),
        "EGRESS": str(directory / "e"),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "ISSUER": "https://issuer.test",
        "AUDIENCE": "authmesh",
        "AWS_REGION": "eu-central-1",
        # Nobody listens there: events wait in the outbox.
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "EVENT_BUS": "authmesh",
        "MESSAGES_TOPIC_ARN": "arn:aws:sns:eu-central-1:000000000000:authmesh-messages",
        "ENVIRONMENT": "production",
        "SIGNING_KEY_FILE": str(directory / "key.pem"),
        "SIGNING_SECRETS": str(directory / "secret"),
    }


async def start(variables: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.token.main",
        env=variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


@asynccontextmanager
async def running(variables: dict[str, str]) -> AsyncIterator[Process]:
    process = await start(variables)
    try:
        async with aio.insecure_channel(
            f"unix:{variables['SOCKET']}", options=[*OPTIONS, ("grpc.max_reconnect_backoff_ms", 100)]
        ) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            async with asyncio.timeout(20):
                async for answer in health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True):
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        break
            yield Process(channel, variables, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def refresh(tokens: token_set_pb2.TokenSet, **fields: Any) -> token_service_pb2.RefreshTokenRequest:
    return token_service_pb2.RefreshTokenRequest(refresh_token=tokens.refresh_token, client_id="demo", **fields)
