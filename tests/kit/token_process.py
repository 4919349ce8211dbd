"""The Token process as it is started, its log in a file, with the caller in the place of its sidecar. For tests and for
the bench."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from authmesh.token.v1 import token_issuer_pb2_grpc, token_service_pb2_grpc
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.rpc.channel import OPTIONS
from services.token.keys.signer import LocalSigner
from tests.kit.token_calls import environment

START_SECONDS = 20


@dataclass(frozen=True)
class TokenProcess:
    """A running one."""

    socket: str
    log: Path
    pid: int
    signer: LocalSigner
    """With the process's own key."""
    key: EllipticCurvePrivateKey
    channel: aio.Channel

    @property
    def tokens(self) -> Any:
        return token_service_pb2_grpc.TokenServiceStub(self.channel)

    @property
    def issuer(self) -> Any:
        return token_issuer_pb2_grpc.TokenIssuerStub(self.channel)


@asynccontextmanager
async def running(database_url: str, redis_url: str, **variables: str) -> AsyncIterator[TokenProcess]:
    """Token for the length of a block, serving. `variables` go over those of the tests."""
    with tempfile.TemporaryDirectory(prefix="token-") as name:
        directory = Path(name)
        settings = environment(directory, database_url, redis_url) | variables
        if path := os.environ.get("PYTHONPATH"):
            settings["PYTHONPATH"] = path
        log = directory / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.token.main",
                env=settings,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
            )
        try:
            async with aio.insecure_channel(
                f"unix:{settings['SOCKET']}", options=[*OPTIONS, ("grpc.max_reconnect_backoff_ms", 100)]
            ) as channel:
                await _serving(channel, process, log)
                key_file = Path(settings["SIGNING_KEY_FILE"])
                key: Any = load_pem_private_key(key_file.read_bytes(), password=None)
                yield TokenProcess(settings["SOCKET"], log, process.pid, LocalSigner(key), key, channel)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _serving(channel: aio.Channel, process: asyncio.subprocess.Process, log: Path) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    async with asyncio.timeout(START_SECONDS):
        async for answer in health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            assert process.returncode is None, log.read_text()[-2000:]
