"""Where one secret is kept: the environment, a file, or AWS Secrets Manager.

A setting names a secret by the absolute path of a file or by its ARN. It is read again and again, so that
a rotation needs no restart.
"""

import asyncio
import stat
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mesh.aws import open_client

_ARN = "arn:"
_STAGES = ("AWSCURRENT", "AWSPENDING", "AWSPREVIOUS")


class SecretUnavailableError(Exception):
    """A secret can't be read; the message names it, says why, and repeats nothing of it."""


class SecretSource(Protocol):
    """One secret."""

    @property
    def name(self) -> str:
        """How people know it."""

    async def versions(self) -> Sequence[bytes]:
        """The secret as it is now, and behind it what else may be right while it is being rotated.

        Raises:
            SecretUnavailableError: it can't be read.
        """


class GivenSecret:
    """A secret that came with the environment. It stays as it is for as long as the process lives."""

    def __init__(self, name: str, value: str) -> None:
        """Initializes the instance.

        Args:
            name: The variable.
            value: The secret.
        """
        self.name = name
        self._value = value.encode()

    async def versions(self) -> Sequence[bytes]:
        """See `SecretSource.versions`."""
        return (self._value,)


class FileSecret:
    """A secret in a file, which Kubernetes, an agent or a person replaces."""

    def __init__(self, path: Path) -> None:
        """Initializes the instance.

        Args:
            path: The file. No one else may read it.
        """
        self.name = str(path)
        self._path = path

    async def versions(self) -> Sequence[bytes]:
        """See `SecretSource.versions`."""
        return (await asyncio.to_thread(self._read),)

    def _read(self) -> bytes:
        try:
            secret, mode = self._path.read_bytes(), self._path.stat().st_mode
        except OSError as error:
            raise SecretUnavailableError(f"{self._path}: {error.strerror}") from error
        if mode & stat.S_IRWXO:
            raise SecretUnavailableError(f"{self._path}: others may read it: chmod o= {self._path}")
        return secret


class SecretsManagerSecret:
    """A secret of AWS Secrets Manager: AWSCURRENT, then AWSPENDING and AWSPREVIOUS while they are there.

    A rotation makes the new password known to the server before it becomes current: between the two only AWSPENDING is
    right. https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html
    """

    def __init__(self, arn: str, open_client: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        """Initializes the instance.

        Args:
            arn: Of the secret.
            open_client: A client of `secretsmanager`.
        """
        self.name = arn
        self._open_client = open_client

    async def versions(self) -> Sequence[bytes]:
        """See `SecretSource.versions`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            async with self._open_client() as client:
                found = [await self._version(client, stage) for stage in _STAGES]
        except (ClientError, BotoCoreError, OSError, TimeoutError) as error:
            raise SecretUnavailableError(f"{self.name}: {type(error).__name__}") from error
        versions = list(dict.fromkeys(filter(None, found)))
        if found[0] is None:
            raise SecretUnavailableError(f"{self.name}: it has no current version")
        return versions

    async def _version(self, client: Any, stage: str) -> bytes | None:
        try:
            answer = await client.get_secret_value(SecretId=self.name, VersionStage=stage)
        except client.exceptions.ResourceNotFoundException:
            return None
        value = answer.get("SecretString")
        return value.encode() if value is not None else bytes(answer["SecretBinary"])


@dataclass(frozen=True, slots=True)
class _Region:
    """The region of a secret: its ARN says which."""

    aws_region: str
    aws_endpoint_url: str | None = None


def secret_source(reference: str) -> SecretSource:
    """The source that a setting names.

    Raises:
        ValueError: it is neither an absolute path nor the ARN of a secret.
    """
    if reference.startswith("/"):
        return FileSecret(Path(reference))
    parts = reference.split(":")
    if not reference.startswith(_ARN) or len(parts) != 7 or parts[2] != "secretsmanager" or not parts[3]:
        raise ValueError("must be the absolute path of a file, or the ARN of a secret of Secrets Manager")
    region = _Region(parts[3])
    return SecretsManagerSecret(reference, lambda: open_client("secretsmanager", region))


def secret_sources(references: str) -> list[SecretSource]:
    """The sources of a comma-separated list.

    Raises:
        ValueError: see `secret_source`.
    """
    return [secret_source(reference.strip()) for reference in references.split(",") if reference.strip()]
