"""`python -m mesh.storage.migrations services.auth …`.

Brings databases up to date, as a step of its own before the services start.

The scripts are Alembic's, in `<package>/migrations/versions`. Beside the package's own branch each database has that of
the mesh's tables (label `mesh`, in `mesh/storage/migrations/versions`), whose SQL stands in its revisions: code that
changes changes no history. Each database is reached with the owner role, whose
address is in `MIGRATE_<NAME>_URL` (`MIGRATE_AUTH_URL` for `services.auth`); the service itself never may change its
schema.
"""

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

MESH = "mesh.storage"
"""The package whose migrations make the mesh's own tables. Migrated by itself it makes a database with these alone."""

# Until 0.2 every service had a copy of the mesh's second revision, under this name, in its own branch.
_FORGET_COPIES = "UPDATE alembic_version SET version_num = '0001' WHERE version_num = '0002_audit_pipeline'"


def _migrations(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"no package {package}")
    return Path(spec.submodule_search_locations[0]) / "migrations"


def _scripts(*packages: str) -> ScriptDirectory:
    folders = [_migrations(package) for package in dict.fromkeys(packages)]
    return ScriptDirectory(str(folders[0]), version_locations=[str(folder / "versions") for folder in folders])


def head(package: str) -> str:
    """The revision that the package's own scripts lead to.

    Raises:
        ModuleNotFoundError: no such package, or it has no migrations.
    """
    revision = _scripts(package).get_current_head() if _migrations(package).is_dir() else None
    if revision is None:
        raise ModuleNotFoundError(f"{package} has no migrations")
    return revision


async def migrate(url: str, package: str) -> str:
    """Upgrades the database at `url` in one transaction and returns the revision of `package`.

    The newest revisions are those of `package` and of the mesh's own tables. Several at once wait for each other.

    Raises:
        ModuleNotFoundError: no such package, or it has no migrations.
    """
    newest, scripts = head(package), _scripts(package, MESH)

    def upgrade(connection: Connection) -> None:
        # The lock ends with the transaction, so it is not session state and works behind a transaction pooler.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('authmesh.migrations'))"))
        if connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL")):
            connection.execute(text(_FORGET_COPIES))

        def steps(current: Any, _: MigrationContext) -> Any:
            return scripts._upgrade_revs("heads", current)  # noqa: SLF001 - what `alembic upgrade` calls; env.py files would be its public form

        context = MigrationContext.configure(connection, opts={"fn": steps})
        with Operations.context(context):
            context.run_migrations()

    # asyncpg reads the address itself, as it does for the services: SQLAlchemy knows only some of its parameters (not
    # `sslmode`).
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url), poolclass=NullPool
    )
    try:
        async with engine.begin() as connection:
            await connection.run_sync(upgrade)
    finally:
        await engine.dispose()
    return newest


def _variable(package: str) -> str:
    return f"MIGRATE_{package.rpartition('.')[2].upper()}_URL"


async def main(packages: list[str], environment: Callable[[str], str | None] = os.environ.get) -> None:
    """Migrates the named packages, one after the other.

    Alembic's `op`, which the scripts speak to, is one for a whole process.
    """
    urls = {package: environment(_variable(package)) or "" for package in packages}
    if missing := [_variable(package) for package, url in urls.items() if not url]:
        sys.exit(f"authmesh: environment variable {missing[0]} is missing: the owner role's database address")
    for package, url in urls.items():
        print(f"{package} is at revision {await migrate(url, package)}")
