"""The AWS APIs on this machine: ministack, on loopback only, with its state on disk."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mesh.local import probes
from mesh.local.infra import Infra
from mesh.local.ports import HOST, free_port
from mesh.local.process import Program
from mesh.local.secret_file import private_directory
from mesh.local.supervisor import supervised

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "authmesh", "AWS_SECRET_ACCESS_KEY": "authmesh"}
"""Any will do: the emulator checks none."""

LAUNCH = "from hypercorn.config import Config; Config.graceful_timeout = 0.3; from ministack.app import main; main()"
"""As `python -m ministack`, but it ends at once: by itself it waits 3 s for clients that only wait for messages."""


@dataclass(frozen=True, slots=True)
class AwsEmulator:
    """An emulator that is ready to be started."""

    port: int
    program: Program

    @property
    def endpoint_url(self) -> str:
        """Value for AWS_ENDPOINT_URL."""
        return f"http://{HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to use the emulator, and nothing but the emulator."""
        nothing = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}
        return {"AWS_ENDPOINT_URL": self.endpoint_url, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION} | CREDENTIALS | nothing


def prepare(infra: Infra, directory: Path, *, port: int | None = None, log: Path | None = None) -> AwsEmulator:
    """Args:
        directory: where its state and its objects are kept.
        port: loopback port; a free one by default.

    Raises:
        LocalMeshError: it is not installed, or the directory can't be written.
    """
    private_directory(directory)
    temporary = private_directory(directory / "tmp")
    infra.require_ministack()
    port = port or free_port()

    async def healthy() -> bool:
        return await probes.http_ok((HOST, port), "/_ministack/health")

    program = Program(
        name="aws",
        argv=(str(infra.python), "-c", LAUNCH),
        log=log or directory / "ministack.log",
        healthy=healthy,
        environment={
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(port),
            "MINISTACK_HOST": "localhost",
            "MINISTACK_REGION": REGION,
            "PERSIST_STATE": "1",
            "STATE_DIR": str(directory / "state"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(directory / "s3"),
            # Listeners on further, fixed ports that nothing here uses.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
            "TMPDIR": str(temporary),
            "HOME": str(directory),
            "PATH": os.defpath,
        },
        address=f"{HOST}:{port}",
        directory=directory,
        grace=15,
    )
    return AwsEmulator(port, program)


@asynccontextmanager
async def running(directory: Path, *, infra: Infra | None = None) -> AsyncIterator[AwsEmulator]:
    """An emulator for the length of a block.

    Raises:
        LocalMeshError: it can't be started.
    """
    emulator = prepare(infra or Infra.find(), directory)
    async with supervised(emulator.program, directory / "processes"):
        yield emulator
