"""The real servers that tests run against: each is started once per session, on free ports and sockets, and stopped at
the end."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
import redis.asyncio
from xdist.scheduler import LoadScopeScheduling

from mesh.local.components import aws_emulator, postgres, valkey
from mesh.storage.database import Database
from mesh.storage.migrations import migrate

# Tests call the servers that they start. What the shell has for others (a profile, a proxy, a database) is not for
# them.
for _name in list(os.environ):
    if (
        _name.startswith(("AWS_", "PG"))
        or _name.lower().endswith("_proxy")
        or _name in {"DATABASE_URL", "REDIS_URL", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"}
    ):
        del os.environ[_name]

Held = TypeVar("Held")
OpenDatabase = Callable[[str], Awaitable[Database]]


class Files(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Workers take files whole, because what a file starts serves all of its tests; and all that share the mesh of e2e
    together.

    By ids alone: the groups of xdist 3.8 are lost with pytest 9.2, whose ids can't be changed.
    """

    def _split_scope(self, nodeid: str) -> str:
        return work_unit(nodeid.partition("::")[0])


@cache
def work_unit(file: str) -> str:
    """What a file of tests is done together with."""
    if not file.startswith("tests/e2e/"):
        return file
    text = (Path(__file__).parents[1] / file).read_text()
    return "mesh" if "mesh: RunningMesh" in text and "def mesh(" not in text else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Files:
    """How tests are spread over workers."""
    return Files(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares the mesh goes first: it takes longest."""
    items.sort(key=lambda item: work_unit(item.nodeid.partition("::")[0]) != "mesh")


@asynccontextmanager
async def held(resource: AbstractAsyncContextManager[Held]) -> AsyncIterator[Held]:
    """Enters and leaves `resource` in one task of its own: pytest-asyncio sets a fixture up and tears it down in two
    different ones."""
    ready: asyncio.Future[Held] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def hold() -> None:
        try:
            async with resource as value:
                ready.set_result(value)
                await done.wait()
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    task = asyncio.create_task(hold())
    try:
        yield await ready
    finally:
        done.set()
        await task


@pytest.fixture(scope="session")
async def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[postgres.Postgres]:
    async with held(postgres.running(tmp_path_factory.mktemp("postgres"), durable=False)) as server:
        yield server


@pytest.fixture(scope="session")
async def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[valkey.Valkey]:
    async with held(valkey.running(tmp_path_factory.mktemp("valkey"))) as server:
        yield server


@pytest.fixture
async def valkey_url(valkey_server: valkey.Valkey) -> str:
    """An empty Valkey."""
    async with redis.asyncio.from_url(valkey_server.url) as client:
        await client.flushall()
    return valkey_server.url


@pytest.fixture(scope="session")
async def aws_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[aws_emulator.AwsEmulator]:
    async with held(aws_emulator.running(tmp_path_factory.mktemp("aws"))) as server:
        yield server


@pytest.fixture(scope="session")
async def new_database_url(postgres_server: postgres.Postgres) -> Callable[[str], Awaitable[str]]:
    """Makes a database of its own for a test, with the schema of a service: `await new_database_url("services.token")`
    gives its address."""
    numbers = itertools.count()
    templates: dict[str, str] = {}

    def url(database: str) -> str:
        return postgres_server.admin_url.replace("/postgres?", f"/{database}?")

    async def new(package: str) -> str:
        admin = await asyncpg.connect(postgres_server.admin_url)
        try:
            if package not in templates:
                template = f"template_{package.rpartition('.')[2]}"
                await admin.execute(f"CREATE DATABASE {template}")
                await migrate(url(template), package)
                templates[package] = template
            name = f"{templates[package]}_{next(numbers)}"
            await admin.execute(f"CREATE DATABASE {name} TEMPLATE {templates[package]}")
        finally:
            await admin.close()
        return url(name)

    return new


@pytest.fixture
async def open_database(new_database_url: Callable[[str], Awaitable[str]]) -> AsyncIterator[OpenDatabase]:
    """Opens a new database with the schema of a service, and closes it when the test ends."""
    async with AsyncExitStack() as stack:

        async def open_one(package: str) -> Database:
            return await stack.enter_async_context(Database.open(await new_database_url(package)))

        yield open_one
