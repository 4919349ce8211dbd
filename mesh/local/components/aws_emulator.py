"""The AWS APIs on this machine.

Ministack behind a front that lets nothing through but what this mesh's access key signed, with its state on disk.
"""

import os
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mesh.local import probes
from mesh.local.components import aws_front
from mesh.local.infra import Infra
from mesh.local.ports import HOST, free_port
from mesh.local.process import Program
from mesh.local.supervisor import supervised
from mesh.operator.aws_account import REGION, AwsAccount
from mesh.operator.secret_file import load_or_create, load_or_create_password, private_directory

SERVICES = ("cloudformation", "events", "kms", "s3", "sns", "sqs")
"""What the mesh needs. CloudFormation makes resources of others too; no one can call their APIs."""


@dataclass(frozen=True, slots=True)
class AwsEmulator:
    """An emulator that is ready to be started."""

    port: int
    access_key: str
    secret: str
    program: Program

    @property
    def endpoint_url(self) -> str:
        """Value for AWS_ENDPOINT_URL."""
        return f"http://{HOST}:{self.port}"

    @property
    def account(self) -> AwsAccount:
        """The account that it serves."""
        return AwsAccount(self.endpoint_url, REGION, self.environment, emulated=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to use the emulator, and nothing but the emulator."""
        nothing = {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        place = {"AWS_ENDPOINT_URL": self.endpoint_url, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
        return place | {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret} | nothing


def prepare(
    infra: Infra,
    directory: Path,
    *,
    port: int | None = None,
    log: Path | None = None,
    services: Iterable[str] = SERVICES,
    inbox: Path | None = None,
) -> AwsEmulator:
    """Prepares the emulator; nothing is started yet.

    Args:
        infra: Where the binaries are.
        directory: Where its state, its objects and its access key are kept.
        port: Loopback port; a free one by default.
        log: File for its log; in `directory` by default.
        services: APIs that may be called.
        inbox: The file that letters of Cognito go to.

    Raises:
        OperatorError: it is not installed, or the directory can't be written.
    """
    private_directory(directory)
    temporary = private_directory(directory / "tmp")
    infra.require_ministack()
    port = port or free_port()
    access_key = load_or_create(
        directory / "access-key", lambda: f"AUTHMESH{secrets.token_hex(8).upper()}".encode()
    ).decode()
    secret = load_or_create_password(directory / "secret-key")

    async def healthy() -> bool:
        return await probes.http_ok((HOST, port), aws_front.HEALTH)

    program = Program(
        name="aws",
        argv=(str(infra.python), "-I", aws_front.__file__),
        log=log or directory / "ministack.log",
        healthy=healthy,
        environment={
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "SERVICES": ",".join(services),
            **({"INBOX": str(inbox)} if inbox else {}),
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
    return AwsEmulator(port, access_key, secret, program)


@asynccontextmanager
async def running(
    directory: Path, *, infra: Infra | None = None, services: Iterable[str] = SERVICES, inbox: Path | None = None
) -> AsyncIterator[AwsEmulator]:
    """An emulator for the length of a block.

    Raises:
        OperatorError: it can't be started.
    """
    emulator = prepare(infra or Infra.find(), directory, services=services, inbox=inbox)
    async with supervised(emulator.program, directory / "processes"):
        yield emulator
