"""The AWS account of a local mesh: the emulator, or whatever AWS_ENDPOINT_URL of the user names."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mesh.local.components.aws_emulator import CREDENTIALS, REGION

PASSED_ON = (
    "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
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
            passed_on |= CREDENTIALS
        return cls(
            endpoint_url, region, passed_on | {"AWS_ENDPOINT_URL": endpoint_url, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}, emulated=False
        )

    @asynccontextmanager
    async def client(self, service: str) -> AsyncIterator[Any]:
        """A client of one API."""
        from aiobotocore.config import AioConfig
        from aiobotocore.session import get_session

        # No proxies: they are for the world outside, and this is inside.
        config = AioConfig(connect_timeout=3, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3}, proxies={})
        session: Any = get_session()
        async with session.create_client(
            service,
            region_name=self.region,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.environment.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=self.environment.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=self.environment.get("AWS_SESSION_TOKEN"),
            config=config,
        ) as client:
            yield client
