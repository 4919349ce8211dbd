"""`python -m mesh.storage.provisioning` on a server of its own, with an administrator who is not a superuser: as RDS
has it."""

import json
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import asyncpg
import pytest

from mesh.local.components import postgres
from mesh.storage.provisioning import as_role, main
from tests.conftest import held

NODES = ["auth", "token"]


@pytest.fixture
async def environment(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    async with held(postgres.running(tmp_path / "server", durable=False)) as server:
        password = secrets.token_hex(8)
        admin = await asyncpg.connect(server.admin_url)
        await admin.execute(f"CREATE ROLE master LOGIN CREATEROLE CREATEDB PASSWORD '{password}'")
        await admin.close()

        def secret(name: str, content: Mapping[str, str]) -> str:
            file = tmp_path / name
            file.write_text(json.dumps(content))
            file.chmod(0o600)
            return str(file)

        given = {
            "ADMIN_URL": as_role(server.admin_url, "postgres", "master"),
            "ADMIN_SECRET": secret("admin", {"username": "master", "password": password}),
        }
        for node in NODES:
            for kind, role in (("OWNER", f"authmesh_{node}_owner"), ("DATABASE", f"authmesh_{node}")):
                content = {"username": role, "password": secrets.token_hex(8)}
                given[f"{node.upper()}_{kind}_SECRET"] = secret(f"{node}-{kind}", content)
        yield given


def password(environment: Mapping[str, str], variable: str) -> str:
    return str(json.loads(Path(environment[variable]).read_text())["password"])


async def test_each_service_gets_a_database_that_it_may_change_the_rows_of(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    await main(NODES, environment.get)
    told = capsys.readouterr().out
    assert "auth has its database at revision " in told
    assert "token has its database at revision " in told
    address = as_role(
        environment["ADMIN_URL"], "authmesh_auth", "authmesh_auth", password(environment, "AUTH_DATABASE_SECRET")
    )
    service = await asyncpg.connect(address)
    try:
        assert await service.fetchval("SELECT count(*) FROM outbox") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.execute("CREATE TABLE mine (id int)")
    finally:
        await service.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(address.replace("/authmesh_auth?", "/authmesh_token?"))


async def test_a_further_run_keeps_passwords_that_were_rotated_meanwhile(environment: dict[str, str]) -> None:
    await main(NODES, environment.get)
    admin = await asyncpg.connect(
        as_role(environment["ADMIN_URL"], "postgres", "master", password(environment, "ADMIN_SECRET"))
    )
    try:
        await admin.execute("ALTER ROLE authmesh_auth PASSWORD 'rotated'")
    finally:
        await admin.close()
    await main(NODES, environment.get)
    service = await asyncpg.connect(as_role(environment["ADMIN_URL"], "authmesh_auth", "authmesh_auth", "rotated"))
    await service.close()


async def test_what_is_missing_is_told_at_once_and_nothing_is_made(environment: dict[str, str]) -> None:
    del environment["TOKEN_OWNER_SECRET"], environment["AUTH_DATABASE_SECRET"]
    with pytest.raises(SystemExit, match=r"variables are missing: AUTH_DATABASE_SECRET, TOKEN_OWNER_SECRET"):
        await main(NODES, environment.get)


async def test_a_secret_that_can_not_be_read_stops_it_before_anything_is_made(environment: dict[str, str]) -> None:
    Path(environment["TOKEN_OWNER_SECRET"]).unlink()
    with pytest.raises(SystemExit, match=r"a secret can't be read: TOKEN_OWNER_SECRET \(/"):
        await main(NODES, environment.get)
    admin = await asyncpg.connect(
        as_role(environment["ADMIN_URL"], "postgres", "master", password(environment, "ADMIN_SECRET"))
    )
    try:
        assert not await admin.fetchval("SELECT count(*) FROM pg_database WHERE datname LIKE 'authmesh%'")
    finally:
        await admin.close()


async def test_a_server_that_refuses_is_one_line_without_a_password(environment: dict[str, str]) -> None:
    environment["ADMIN_SECRET"] = environment["AUTH_OWNER_SECRET"]
    with pytest.raises(SystemExit) as refused:
        await main(NODES, environment.get)
    assert str(refused.value).startswith("authmesh: the database of auth can't be made: ")
    assert len(str(refused.value).splitlines()) == 1
    assert password(environment, "AUTH_OWNER_SECRET") not in str(refused.value)
