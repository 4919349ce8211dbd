"""The AWS account of a local mesh: the emulator, or whatever AWS_ENDPOINT_URL of the user names."""

import os
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mesh.operator.errors import OperatorError
from mesh.operator.state_dir import StateDir
from mesh.operator.status import read_status

REGION = "us-east-1"
"""Of emulators."""
ANY_KEY = {"AWS_ACCESS_KEY_ID": "authmesh", "AWS_SECRET_ACCESS_KEY": "authmesh"}
"""For emulators of the user, which check none."""
PASSED_ON = (
    "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN", "AWS_PROFILE",
    "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE", "HOME",
)  # fmt: skip
"""Variables of ours that processes get when the account is the user's."""


@dataclass(frozen=True, slots=True)
class AwsAccount:
    """An account, and how to reach it."""

    endpoint_url: str
    region: str
    environment: Mapping[str, str]
    """For processes that use it."""
    emulated: bool
    """Whether it is our own emulator, whose gaps are ours to fill."""

    @classmethod
    def of_user(cls, endpoint_url: str, environment: Mapping[str, str]) -> "AwsAccount":
        """The account behind the user's endpoint. Without credentials it gets those that emulators take."""
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or REGION
        passed_on = {name: environment[name] for name in PASSED_ON if environment.get(name)}
        if not {"AWS_ACCESS_KEY_ID", "AWS_PROFILE"} & passed_on.keys():
            passed_on |= ANY_KEY
        return cls(
            endpoint_url,
            region,
            passed_on | {"AWS_ENDPOINT_URL": endpoint_url, "AWS_REGION": region, "AWS_DEFAULT_REGION": region},
            emulated=False,
        )

    @classmethod
    def running(cls, environment: Mapping[str, str] = os.environ) -> "AwsAccount":
        """The account of the mesh that runs on this machine.

        Raises:
            OperatorError: no mesh runs, or it has no account yet.
        """
        home = StateDir.chosen(environment)
        read_status(home.status)
        try:
            published = dict(line.split("=", 1) for line in shlex.split(home.aws_environment.read_text()))
            return cls(published["AWS_ENDPOINT_URL"], published["AWS_REGION"], published, emulated=False)
        except (OSError, ValueError, KeyError):
            raise OperatorError(
                f"the mesh in {home.path} has no AWS account yet: wait until `authmesh status` says ready"
            ) from None

    @property
    def published(self) -> str:
        """The account as lines of a file: for commands beside the running mesh, and for shells (`set -a; . FILE`)."""
        return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(self.environment.items()))

    @asynccontextmanager
    async def client(self, service: str, **options: Any) -> AsyncIterator[Any]:
        """A client of one API, which sees this account's environment and takes nothing from the process's.

        Args:
            service: botocore's name of the API: `s3`, `sqs`.
            options: Of botocore's `Config`, where they differ from ours.
        """
        from aiobotocore.config import AioConfig
        from aiobotocore.session import AioSession
        from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES

        # No proxies: they are for the world outside, and this is inside.
        ours: dict[str, Any] = {
            "connect_timeout": 3,
            "read_timeout": 30,
            "retries": {"mode": "standard", "total_max_attempts": 3},
            "proxies": {},
        }
        session: Any = AioSession(
            session_vars={
                name: (key, None, self._variable(variables) or default, convert)
                for name, (key, variables, default, convert) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
            }
        )
        async with session.create_client(
            service,
            region_name=self.region,
            endpoint_url=self.endpoint_url,
            # Without TLS there is nothing to verify, but certificates that REQUESTS_CA_BUNDLE names would be read all
            # the same.
            verify=None if self.endpoint_url.startswith("https:") else False,
            aws_access_key_id=self.environment.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=self.environment.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=self.environment.get("AWS_SESSION_TOKEN"),
            config=AioConfig(**(ours | options)),
        ) as client:
            yield client

    def _variable(self, names: str | list[str] | None) -> str | None:
        listed = [names] if isinstance(names, str) else names or []
        return next((self.environment[name] for name in listed if name in self.environment), None)
