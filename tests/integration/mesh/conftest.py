"""Databases that hold an outbox and nothing else."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from mesh.local.components.postgres import Postgres
from mesh.outbox.work import Work
from mesh.storage.database import Database
from mesh.storage.migrations import MESH, migrate

_NUMBERS = itertools.count()

NewUrl = Callable[[], Awaitable[str]]


@pytest.fixture(scope="session")
async def empty_database_url(postgres_server: Postgres) -> NewUrl:
    """Makes an empty database and gives its address."""

    async def new() -> str:
        name = f"empty_{next(_NUMBERS)}"
        admin = await asyncpg.connect(postgres_server.admin_url)
        await admin.execute(f"CREATE DATABASE {name}")
        await admin.close()
        return postgres_server.admin_url.replace("/postgres?", f"/{name}?")

    return new


@pytest.fixture(scope="module")
async def outbox_url(empty_database_url: NewUrl) -> str:
    """A database with an outbox."""
    url = await empty_database_url()
    await migrate(url, MESH)
    return url


@pytest.fixture
async def database(outbox_url: str) -> AsyncIterator[Database]:
    """A database with an empty outbox."""
    async with Database.open(outbox_url) as opened:
        await opened.execute("TRUNCATE outbox, outbox_chain, outbox_parked, subject_keys RESTART IDENTITY")
        yield opened


@pytest.fixture
def work(database: Database) -> Work:
    """The units of work of a service with an empty outbox."""
    return Work(database, "auth")
