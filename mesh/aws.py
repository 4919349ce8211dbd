"""The one place where AWS clients are made."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol


class Place(Protocol):
    """Where the APIs are: `mesh.settings.AwsSettings`, or a part of it."""

    @property
    def aws_region(self) -> str:
        """Name of the region."""

    @property
    def aws_endpoint_url(self) -> str | None:
        """Set where the APIs are emulated. None: what the environment says (`AWS_ENDPOINT_URL`), or AWS."""


@asynccontextmanager
async def open_client(service: str, settings: Place) -> AsyncIterator[Any]:
    """A client of one AWS API, by botocore's name of it (`events`, `sns`, `sqs`, `s3`).

    Credentials come from the usual chain.

    Timeouts are short and attempts few: each caller has a queue behind it and tries again with its own backoff. The
    node's name is in `userAgent` of each of its calls in CloudTrail, as `app/authmesh-token`.
    """
    # 30 MB and 0.3 s of imports: only for processes that talk to AWS.
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    # A service's settings are of a node, too; a command's are not.
    node = getattr(settings, "node", None)
    config = AioConfig(
        connect_timeout=2,
        read_timeout=25,
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=10,
        user_agent_appid=f"authmesh-{node}" if node else None,
    )
    # The stubs want a literal name; ours is a value.
    create: Any = get_session().create_client
    async with create(
        service, region_name=settings.aws_region, endpoint_url=settings.aws_endpoint_url, config=config
    ) as client:
        yield client
