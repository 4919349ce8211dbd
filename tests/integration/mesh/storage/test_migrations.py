"""A database is brought up to date in one step or not at all, however many try it at once."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

import mesh.storage.migrations
import services
from mesh.storage.migrations import MESH, head, main, migrate

PACKAGE = "painted"
MESH_TABLES = {"outbox", "outbox_chain", "outbox_parked", "subject_keys"}
FIRST = """
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    op.execute("CREATE TABLE wall (colour text)")
"""
SECOND = """
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE wall ADD COLUMN size integer")
    op.execute("INSERT INTO wall VALUES ('green', 1)")
"""

NewUrl = Callable[[], Awaitable[str]]


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The migrations of a package of our own, with the first one in it."""
    folder = tmp_path / PACKAGE / "migrations" / "versions"
    folder.mkdir(parents=True)
    (tmp_path / PACKAGE / "__init__.py").touch()
    (folder / "0001_walls.py").write_text(FIRST)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    sys.modules.pop(PACKAGE, None)


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    await connection.close()
    return {row["table_name"] for row in rows}


async def value(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_an_empty_database_gets_everything(versions: Path, empty_database_url: NewUrl) -> None:
    url = await empty_database_url()
    assert await migrate(url, PACKAGE) == "0001" == head(PACKAGE)
    assert await tables(url) == {"wall", *MESH_TABLES, "alembic_version"}


async def test_the_meshs_own_tables_come_alone_to_a_database_of_no_service(empty_database_url: NewUrl) -> None:
    url = await empty_database_url()
    assert await migrate(url, MESH) == head(MESH)
    assert await tables(url) == {*MESH_TABLES, "alembic_version"}


def test_history_is_frozen_in_the_revisions() -> None:
    scripts = [*Path(mesh.storage.migrations.__file__).parent.glob("versions/*.py")]
    scripts += Path(services.__file__).parent.glob("*/migrations/versions/*.py")
    assert len(scripts) > 15
    for script in scripts:
        imports = [line for line in script.read_text().splitlines() if line.startswith(("import", "from"))]
        assert set(imports) <= {"from alembic import op"}, script


async def test_a_database_gets_what_it_lacks_and_keeps_what_it_holds(
    versions: Path, empty_database_url: NewUrl
) -> None:
    url = await empty_database_url()
    await migrate(url, PACKAGE)
    await value(url, "INSERT INTO wall VALUES ('red')")
    (versions / "0002_sizes.py").write_text(SECOND)
    assert await migrate(url, PACKAGE) == "0002"
    assert await migrate(url, PACKAGE) == "0002"
    assert await value(url, "SELECT string_agg(colour, ' ' ORDER BY colour) FROM wall") == "green red"


async def test_many_at_once_do_it_once(versions: Path, empty_database_url: NewUrl) -> None:
    (versions / "0002_sizes.py").write_text(SECOND)
    url = await empty_database_url()
    assert set(await asyncio.gather(*(migrate(url, PACKAGE) for _ in range(4)))) == {"0002"}
    assert await value(url, "SELECT count(*) FROM wall") == 1


async def test_a_step_that_fails_takes_the_steps_before_it_back(versions: Path, empty_database_url: NewUrl) -> None:
    (versions / "0002_sizes.py").write_text(SECOND.replace("wall ADD", "absent ADD"))
    url = await empty_database_url()
    with pytest.raises(Exception, match="absent"):
        await migrate(url, PACKAGE)
    assert await tables(url) == set()
    (versions / "0002_sizes.py").write_text(SECOND)
    assert await migrate(url, PACKAGE) == "0002"


async def test_a_database_that_is_newer_than_the_code_is_left_alone(versions: Path, empty_database_url: NewUrl) -> None:
    (versions / "0002_sizes.py").write_text(SECOND)
    url = await empty_database_url()
    await migrate(url, PACKAGE)
    (versions / "0002_sizes.py").unlink()
    with pytest.raises(Exception, match="0002"):
        await migrate(url, PACKAGE)
    assert await value(url, "SELECT array_agg(version_num ORDER BY version_num) FROM alembic_version") == [
        "0002",
        head(MESH),
    ]


async def test_the_command_migrates_all_it_was_told_to_and_says_so(
    versions: Path, empty_database_url: NewUrl, capsys: pytest.CaptureFixture[str]
) -> None:
    url = await empty_database_url()
    await main([PACKAGE], lambda name: url if name == "MIGRATE_PAINTED_URL" else None)
    assert capsys.readouterr().out == "painted is at revision 0001\n"


async def test_a_missing_address_is_named_before_anything_is_done(versions: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        await main([PACKAGE], lambda _: None)
    assert "MIGRATE_PAINTED_URL is missing" in str(stopped.value)


async def test_a_package_that_is_not_there_or_has_no_migrations_is_named(
    versions: Path, empty_database_url: NewUrl
) -> None:
    with pytest.raises(ModuleNotFoundError, match="unpainted"):
        head("unpainted")
    for script in versions.iterdir():
        script.unlink()
    with pytest.raises(ModuleNotFoundError, match="painted has no migrations"):
        await migrate(await empty_database_url(), PACKAGE)


async def test_the_runtime_role_may_change_rows_and_nothing_else(versions: Path, empty_database_url: NewUrl) -> None:
    url = await empty_database_url()
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE ROLE painter LOGIN PASSWORD 'p'")
    await connection.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO painter")
    await connection.close()
    await migrate(url, PACKAGE)
    runtime = f"postgresql://painter:p@{url.partition('@')[2]}"
    await value(runtime, "INSERT INTO outbox (kind, destination, payload) VALUES ('audit', 'x', 'x')")
    for forbidden in (
        "ALTER TABLE wall ADD COLUMN x text",
        "DROP TABLE outbox",
        "CREATE TABLE mine (x text)",
        "TRUNCATE outbox",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await value(runtime, forbidden)
