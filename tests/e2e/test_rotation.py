"""Passwords of PostgreSQL and Valkey are rotated under a mesh that is being called: no call fails."""

import asyncio
import json
import time

import asyncpg
import pytest
import redis.asyncio

from tests.e2e.conftest import Person, RunningMesh, sign_up
from tests.kit.admin_url import admin_url
from tests.kit.protocols import Answer

pytestmark = pytest.mark.slow
CLONE = "authmesh_token_clone"
AT_ONCE = 8


async def test_rotation_under_load_fails_no_call(mesh: RunningMesh, administrator: Person) -> None:
    client = mesh.clients["grpc"]
    people = [await sign_up(mesh, client) for _ in range(AT_ONCE)]
    stopped, done, failed = asyncio.Event(), 0, list[Answer]()

    async def call(person: Person) -> None:
        """Refreshes write in the database; the strict method goes by Valkey."""
        nonlocal done
        while not stopped.is_set():
            answer = await client.call("TokenService/RefreshToken", person.refresh)
            if answer.status == "OK":
                person.tokens = answer.body
            strict = await client.call("UserService/DisableUser", {"name": "users/me"}, person.token)
            # Refused for its scope, after the staleness was found good.
            failed.extend(one for one in (answer, strict) if one.outcome not in EXPECTED)
            done += 2
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as tasks:
        for person in people:
            tasks.create_task(call(person))
        try:
            await rotate_valkey(mesh)
            await rotate_postgres(mesh)
        finally:
            stopped.set()
    assert not failed
    assert done > 1000


EXPECTED = {("OK", ""), ("PERMISSION_DENIED", "SCOPE_MISSING")}


async def rotate_postgres(mesh: RunningMesh) -> None:
    """As Secrets Manager rotates with alternating users."""
    file = mesh.home / "secrets" / "database-token"
    before = file.read_text()
    admin = await asyncpg.connect(admin_url(mesh))
    try:
        await admin.execute(f"CREATE ROLE {CLONE} LOGIN PASSWORD 'another' IN ROLE authmesh_token")
        replace(mesh, "database-token", json.dumps({"username": CLONE, "password": "another"}))
        await until_all_are(admin, CLONE)
    finally:
        file.write_text(before)
        await admin.close()


async def until_all_are(admin: "asyncpg.Connection[asyncpg.Record]", role: str) -> None:
    async with asyncio.timeout(90):
        while True:
            rows = await admin.fetch("SELECT usename FROM pg_stat_activity WHERE datname = 'authmesh_token'")
            if {row["usename"] for row in rows} == {role}:
                return
            await asyncio.sleep(0.5)


async def rotate_valkey(mesh: RunningMesh) -> None:
    """Two passwords for a while, and the end of every connection."""
    file = mesh.home / "valkey" / "password"
    before, socket = file.read_text(), mesh.row("valkey")["address"].removeprefix("unix:")
    async with redis.asyncio.Redis(unix_socket_path=socket, password=before) as admin:
        await admin.execute_command("ACL", "SETUSER", "default", ">another")  # type: ignore[no-untyped-call]
        file.write_text("another")
        await admin.execute_command("ACL", "SETUSER", "default", f"<{before}")  # type: ignore[no-untyped-call]
        await admin.execute_command("CLIENT", "KILL", "TYPE", "normal")  # type: ignore[no-untyped-call]
        began = time.monotonic()
        while time.monotonic() < began + 5:
            await asyncio.sleep(0.1)
        await admin.execute_command("ACL", "SETUSER", "default", f">{before}")  # type: ignore[no-untyped-call]
        file.write_text(before)


def replace(mesh: RunningMesh, name: str, content: str) -> None:
    new = mesh.home / "secrets" / f"{name}.new"
    new.write_text(content)
    new.chmod(0o600)
    new.replace(new.with_suffix(""))
