"""Databases, roles and schemas of the services on one PostgreSQL server, ours or the user's.

What each service has is said by `mesh.storage.provisioning`.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from mesh.local.child import last_line
from mesh.operator.errors import OperatorError, explain
from mesh.operator.secret_file import load_or_create_password, write_private
from mesh.storage.provisioning import as_role, database_name, grant_rows, owner_name, provision
from mesh.storage.revisions import newest_revision, versions


@dataclass(frozen=True, slots=True)
class ServiceDatabase:
    """One service's database, and who reaches it how."""

    node: str
    admin_url: str
    runtime_password: str
    owner_password: str
    secret: Path
    """The file that has the runtime role's password."""

    @property
    def name(self) -> str:
        """Of the database and of the runtime role."""
        return database_name(self.node)

    @property
    def owner(self) -> str:
        """The role that migrates."""
        return owner_name(self.node)

    @property
    def url(self) -> str:
        """Address for the service."""
        return as_role(self.admin_url, self.name, self.name, self.runtime_password)

    @property
    def address(self) -> str:
        """Address for the service, without the password."""
        return as_role(self.admin_url, self.name, self.name)

    @property
    def owner_url(self) -> str:
        """Address for migrations."""
        return as_role(self.admin_url, self.name, self.owner, self.owner_password)

    @property
    def package(self) -> str:
        """The service's package, whose migrations make the schema."""
        return f"services.{self.node}"


def plan(admin_url: str, nodes: Sequence[str], secrets_directory: Path) -> list[ServiceDatabase]:
    """The databases of the nodes that have migrations.

    Raises:
        OperatorError: their passwords can't be read or written.
    """
    return [
        ServiceDatabase(
            node,
            admin_url,
            load_or_create_password(secrets_directory / f"database-{node}"),
            load_or_create_password(secrets_directory / f"database-{node}-owner"),
            secrets_directory / f"database-{node}",
        )
        for node in nodes
        if versions(f"services.{node}") is not None
    ]


async def ensure(databases: Sequence[ServiceDatabase], log: Path) -> bool:
    """Makes what is missing and migrates what is behind.

    Returns whether there was anything to do: usually there is not, and it takes some ms.

    Raises:
        OperatorError: the server can't be reached or refuses, or a migration fails.
    """
    made = await _made(databases)
    there = [database for database in databases if database.name in made]
    ready = await asyncio.gather(*map(_is_current, there))
    current = {database for database, is_ready in zip(there, ready, strict=True) if is_ready}
    behind = [database for database in databases if database not in current]
    if not behind:
        return False
    try:
        for database in behind:
            await _make(database)
    except asyncpg.DiskFullError as error:
        raise OperatorError(
            f"the databases can't be made: no space is left on the device ({_first_line(error)}): free some"
        ) from None
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise OperatorError(
            f"the databases can't be made on {_without_password(behind[0].admin_url)}: {_first_line(error)}"
        ) from None
    await _migrate(behind, log)
    return True


async def identity(database: ServiceDatabase) -> str:
    """What tells this database from one that was made again under the same name.

    Raises:
        OperatorError: it can't be reached.
    """
    try:
        connection = await asyncpg.connect(database.url, timeout=5)
        try:
            query = (
                "SELECT system_identifier::text || '/' || oid FROM pg_control_system(), "
                "pg_database WHERE datname = current_database()"
            )
            return str(await connection.fetchval(query))
        finally:
            await connection.close()
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise OperatorError(f"the database {database.name} does not answer: {_first_line(error)}") from None


async def _made(databases: Sequence[ServiceDatabase]) -> set[str]:
    """Names of the databases that are there. Asked of the server first: it writes down whom it did not let in."""
    if not databases:
        return set()
    try:
        admin = await asyncpg.connect(databases[0].admin_url, timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        # The step that makes them says what is wrong.
        return set()
    try:
        return {
            row["datname"]
            for row in await admin.fetch("SELECT datname FROM pg_database JOIN pg_roles ON rolname = datname")
        }
    finally:
        await admin.close()


async def _is_current(database: ServiceDatabase) -> bool:
    try:
        connection = await asyncpg.connect(database.url, timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    try:
        rows = await connection.fetch("SELECT version_num FROM alembic_version")
    except asyncpg.PostgresError:
        return False
    finally:
        await connection.close()
    return {row["version_num"] for row in rows} == {newest_revision(database.package), newest_revision("mesh.storage")}


async def _make(database: ServiceDatabase) -> None:
    await provision(
        database.admin_url,
        database.node,
        owner_password=database.owner_password,
        runtime_password=database.runtime_password,
    )
    await grant_rows(database.owner_url, database.node)


async def _migrate(databases: Sequence[ServiceDatabase], log: Path) -> None:
    environment = {
        f"MIGRATE_{database.node.replace('-', '_').upper()}_URL": database.owner_url for database in databases
    }
    try:
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-m", "mesh.storage.migrations", *(database.package for database in databases),
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, env=environment | {"PATH": os.defpath,
                "LC_ALL": "C.UTF-8"},
            )  # fmt: skip
            code = await process.wait()
    except OSError as error:
        raise explain(error, "run the migrations") from None
    if code:
        raise OperatorError(f"a migration failed: {last_line(log)}; see {log}")


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def publish_urls(databases: Sequence[ServiceDatabase], file: Path) -> None:
    """Notes the addresses of the services' databases in a private file.

    Commands that work on a database beside the running service read it.

    Raises:
        OperatorError: it can't be written.
    """
    write_private(file, json.dumps({database.node: database.url for database in databases}).encode())
