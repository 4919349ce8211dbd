"""A login of PostgreSQL is rotated while it is used, and none of the calls under way notices. On a real server."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from mesh.errors import Unavailable
from mesh.secrets.login import Logins
from mesh.secrets.source import FileSecret
from mesh.storage import database as database_module
from mesh.storage.database import Database

CALLERS = 12


class Roles:
    """Two roles of one database, as a rotation by alternating users has them, and the file with the current login."""

    def __init__(self, url: str, file: Path) -> None:
        self.url, self.file = url, file
        name = urlsplit(url).path.removeprefix("/")
        self.names = [f"{name}_a", f"{name}_b"]

    async def give(self, name: str, password: str) -> None:
        admin = await asyncpg.connect(self.url)
        with suppress(asyncpg.DuplicateObjectError):
            await admin.execute(f"CREATE ROLE {name} LOGIN")
        await admin.execute(f"ALTER ROLE {name} PASSWORD '{password}'")
        await admin.close()

    def write(self, name: str, password: str) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"username": name, "password": password}))
        new.chmod(0o600)
        new.replace(self.file)

    async def connected(self) -> set[str]:
        admin = await asyncpg.connect(self.url)
        try:
            rows = await admin.fetch("SELECT usename FROM pg_stat_activity WHERE datname = current_database()")
            return {row["usename"] for row in rows} & set(self.names)
        finally:
            await admin.close()


@pytest.fixture
async def roles(empty_database_url: Callable[[], Awaitable[str]], tmp_path: Path) -> Roles:
    roles = Roles(await empty_database_url(), tmp_path / "login")
    for name in roles.names:
        await roles.give(name, f"first of {name}")
    roles.write(roles.names[0], f"first of {roles.names[0]}")
    return roles


async def test_alternating_users_take_over_without_a_failed_statement(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "REREAD_SECONDS", 0.05)
    done, failed, stopped = 0, list[Exception](), asyncio.Event()
    async with Database.open(roles.url, logins=Logins(FileSecret(roles.file))) as database:

        async def call() -> None:
            nonlocal done
            while not stopped.is_set():
                try:
                    async with database.transaction() as tx:
                        await tx.execute("SELECT pg_sleep(0.01)")
                    done += 1
                except Unavailable as error:
                    failed.append(error)

        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(database.run())
            callers = [tasks.create_task(call()) for _ in range(CALLERS)]
            for turn in range(3):
                before = done
                async with asyncio.timeout(10):
                    while await roles.connected() != {roles.names[turn % 2]} or done < before + 50:
                        await asyncio.sleep(0.02)
                # Another password for the one that is not in use, and then the file says so.
                name = roles.names[(turn + 1) % 2]
                await roles.give(name, f"{turn} of {name}")
                roles.write(name, f"{turn} of {name}")
            async with asyncio.timeout(10):
                while await roles.connected() != {roles.names[1]}:
                    await asyncio.sleep(0.02)
            stopped.set()
            await asyncio.gather(*callers)
            following.cancel()
    assert not failed
    assert done > 150


async def test_a_password_that_changed_under_a_process_is_read_again(roles: Roles) -> None:
    name = roles.names[0]
    logins = Logins(FileSecret(roles.file))
    async with Database.open(roles.url, logins=logins, size=2) as database, database.transaction() as tx:
        await roles.give(name, "second")
        # What is connected stays so; a further connection is refused while the file says nothing of it.
        with pytest.raises(Unavailable):
            await database.fetchval("SELECT 1")
        roles.write(name, "second")
        assert await database.fetchval("SELECT current_user") == name
        assert await tx.fetchval("SELECT current_user") == name


async def test_without_its_secret_the_database_is_out_of_reach_and_comes_back(roles: Roles) -> None:
    content = roles.file.read_bytes()
    roles.file.unlink()
    async with Database.open(roles.url, logins=Logins(FileSecret(roles.file))) as database:
        with pytest.raises(Unavailable):
            await database.fetchval("SELECT 1")
        roles.file.write_bytes(content)
        roles.file.chmod(0o600)
        assert await database.fetchval("SELECT 1") == 1
