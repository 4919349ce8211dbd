"""Databases that hold an outbox and nothing else."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from mesh.audit import subject_keys
from mesh.local.components.postgres import Postgres
from mesh.outbox import dead_letters as parking
from mesh.outbox import outbox
from mesh.storage.database import Database

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
    connection = await asyncpg.connect(url)
    for statement in (*outbox.TABLES, outbox.FIRST_INDEX, *parking.TABLES, *subject_keys.TABLES):
        await connection.execute(statement)
    await connection.close()
    return url


@pytest.fixture
async def database(outbox_url: str) -> AsyncIterator[Database]:
    """A database with an empty outbox."""
    async with Database.open(outbox_url) as opened:
        await opened.execute("TRUNCATE outbox, outbox_chain, outbox_parked, subject_keys RESTART IDENTITY")
        yield opened
