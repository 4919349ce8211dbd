"""Databases and roles, on a real server."""

from pathlib import Path

import asyncpg
import pytest

from mesh.local import databases
from mesh.local.components import postgres
from mesh.local.databases import ServiceDatabase
from mesh.model.mesh import load_mesh
from mesh.operator.errors import OperatorError

NODES = tuple(load_mesh().nodes)


@pytest.fixture(scope="module")
async def made(postgres_server: postgres.Postgres, tmp_path_factory: pytest.TempPathFactory) -> list[ServiceDatabase]:
    directory = tmp_path_factory.mktemp("databases")
    planned = databases.plan(postgres_server.admin_url, NODES, directory)
    assert await databases.ensure(planned, directory / "migrations.log")
    return planned


async def execute(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_a_second_start_finds_them_current(made: list[ServiceDatabase], tmp_path: Path) -> None:
    assert [database.node for database in made] == list(NODES)
    assert not await databases.ensure(made, tmp_path / "log")


async def test_a_service_may_change_rows_but_not_its_schema(made: list[ServiceDatabase]) -> None:
    auth = made[0]
    tables = (
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind "
        "= 'r' AND has_table_privilege(oid, 'DELETE')"
    )
    assert await execute(auth.url, tables)
    for statement in (
        "CREATE TABLE mine (id int)",
        "ALTER TABLE outbox ADD COLUMN mine int",
        "DROP TABLE outbox",
        "CREATE TEMPORARY TABLE mine (id int)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await execute(auth.url, statement)


async def test_a_service_has_no_way_into_another_database(made: list[ServiceDatabase]) -> None:
    auth, token, *_ = made
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(auth.url.replace("/authmesh_auth?", f"/{token.name}?"), "SELECT 1")


async def test_a_password_that_was_changed_is_set_again(made: list[ServiceDatabase], tmp_path: Path) -> None:
    audit = made[-1]
    await execute(audit.admin_url, f"ALTER ROLE {audit.name} PASSWORD 'another'")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await execute(audit.url, "SELECT 1")
    assert await databases.ensure(made, tmp_path / "log")
    assert await execute(audit.url, "SELECT 1") == 1


async def test_passwords_are_stored_as_scram_verifiers_and_not_logged(
    made: list[ServiceDatabase], postgres_server: postgres.Postgres
) -> None:
    stored = await execute(made[0].admin_url, f"SELECT rolpassword FROM pg_authid WHERE rolname = '{made[0].name}'")
    assert str(stored).startswith("SCRAM-SHA-256$4096:")
    assert made[0].runtime_password not in postgres_server.program.log.read_text()


async def test_an_error_does_not_write_the_row_into_the_log(
    made: list[ServiceDatabase], postgres_server: postgres.Postgres
) -> None:
    before = len(postgres_server.program.log.read_text())
    with pytest.raises(asyncpg.NotNullViolationError):
        await execute(made[0].url, "INSERT INTO outbox (kind, destination, payload) VALUES (NULL, 'somebody', '')")
    log = postgres_server.program.log.read_text()[before:]
    assert "violates not-null constraint" in log
    assert "Failing row" not in log


async def test_a_database_made_again_is_another_one(made: list[ServiceDatabase]) -> None:
    assert await databases.identity(made[0]) == await databases.identity(made[0])
    assert await databases.identity(made[0]) != await databases.identity(made[1])


async def test_a_server_out_of_reach_is_named_without_its_password(tmp_path: Path) -> None:
    planned = databases.plan("postgresql://admin:s3cret@127.0.0.1:1/postgres", ["auth"], tmp_path)
    with pytest.raises(
        OperatorError, match=r"the databases can't be made on postgresql://127.0.0.1:1/postgres"
    ) as raised:
        await databases.ensure(planned, tmp_path / "log")
    assert "s3cret" not in str(raised.value)
