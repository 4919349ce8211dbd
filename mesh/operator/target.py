"""The deployment that a command works on.

One of three, for every command: what its options name; the pod that it runs in, whose environment names its service's
database; or else the mesh that runs on this machine, which publishes where everything is (`mesh.operator.state_dir`).
"""

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mesh.operator.aws_account import ANY_KEY, REGION, AwsAccount
from mesh.operator.errors import OperatorError
from mesh.operator.state_dir import StateDir
from mesh.operator.status import Status, read_status

DatabaseUrlOption = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="postgresql://… of the service's database; by default that of this pod, or of the mesh that runs here.",
    ),
]
EndpointOption = Annotated[
    str | None, typer.Option(envvar="AWS_ENDPOINT_URL", help="Where the AWS APIs are, if not in AWS.")
]


@dataclass(frozen=True, slots=True)
class Aws:
    """An AWS account."""

    client: Callable[..., AbstractAsyncContextManager[Any]]
    """Opens a client of one API, by botocore's name of it. Keywords are those of botocore's `Config`."""
    is_local: bool
    """Whether it is that of the mesh that runs on this machine."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Where calls go in."""

    address: str
    """`host:port`."""
    ca_file: Path


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment."""

    database_urls: Mapping[str, str] = field(default_factory=dict)
    """By service, as options named them."""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @classmethod
    def of(cls, service: str, database_url: str | None) -> "Target":
        """The target of a command that works on the database of one service.

        Args:
            service: Its name in mesh.yaml.
            database_url: What the option named.
        """
        return cls({service: database_url} if database_url else {})

    @property
    def home(self) -> StateDir:
        """What the mesh publishes that runs on this machine."""
        return StateDir.chosen(self.environment)

    def status(self) -> Status:
        """Of the mesh that runs on this machine.

        Raises:
            OperatorError: none runs.
        """
        return read_status(self.home.status)

    def database_url(self, service: str) -> str:
        """Address of a service's database, with the service's own role.

        `DATABASE_URL` alone may be anyone's: it counts in a pod, where `NODE` says whose it is.

        Raises:
            OperatorError: there is none to be found.
        """
        if named := self.database_urls.get(service):
            return named
        if self.environment.get("NODE") == service and (url := self.environment.get("DATABASE_URL")):
            return url
        self.status()
        try:
            urls = json.loads(self.home.database_urls.read_bytes())
        except (OSError, ValueError):
            urls = {}
        if service not in urls:
            raise OperatorError(
                f"the mesh in {self.home.path} has no database of {service} yet: wait until `authmesh status` says "
                f"ready"
            )
        return str(urls[service])

    def edge(self) -> Edge:
        """The edge of the mesh that runs on this machine.

        Raises:
            OperatorError: none runs, or it has no edge yet.
        """
        found = self.status()
        if not found.edge or not found.ca_file:
            raise OperatorError(
                f"the mesh is {found.state} and has no edge yet: wait until `authmesh status` says ready"
            )
        return Edge(found.edge.removeprefix("https://"), Path(found.ca_file))

    def aws(self, endpoint_url: str | None, *, named: bool) -> Aws:
        """The AWS account.

        Args:
            endpoint_url: Where its APIs are, if not in AWS.
            named: Whether options named what is looked for in it. Otherwise it is that of the mesh that runs here.

        Raises:
            OperatorError: nothing was named, and no mesh runs here.
        """
        if named:
            return Aws(partial(_client, endpoint_url), is_local=False)
        return Aws(AwsAccount.running(self.environment).client, is_local=True)


@asynccontextmanager
async def _client(endpoint_url: str | None, service: str, **config: Any) -> AsyncIterator[Any]:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    options: dict[str, Any] = {"endpoint_url": endpoint_url}
    if endpoint_url and not os.environ.get("AWS_ACCESS_KEY_ID") and not os.environ.get("AWS_PROFILE"):
        # An emulator of the user's: it takes any.
        options |= {"region_name": REGION} | {name.lower(): value for name, value in ANY_KEY.items()}
    session: Any = get_session()
    async with session.create_client(service, config=AioConfig(**config), **options) as client:
        yield client
