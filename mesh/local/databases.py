"""Databases, roles and schemas of the services on one PostgreSQL server, ours or the user's.

Each service has a database of its own, an owner role that migrates it and a runtime role that may change rows and
nothing else.
"""

import ast
import asyncio
import base64
import hashlib
import hmac
import importlib.util
import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from mesh.local.child import last_line
from mesh.operator.errors import OperatorError, explain
from mesh.operator.secret_file import load_or_create_password, write_private

SCRAM_ITERATIONS = 4096
"""PostgreSQL's own default. The passwords are 192 random bits: more would only cost time at each connection."""


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
        return f"authmesh_{self.node.replace('-', '_')}"

    @property
    def owner(self) -> str:
        """The role that migrates."""
        return f"{self.name}_owner"

    @property
    def url(self) -> str:
        """Address for the service."""
        return _as_role(self.admin_url, self.name, self.name, self.runtime_password)

    @property
    def address(self) -> str:
        """Address for the service, without the password."""
        return _as_role(self.admin_url, self.name, self.name)

    @property
    def owner_url(self) -> str:
        """Address for migrations."""
        return _as_role(self.admin_url, self.name, self.owner, self.owner_password)

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
        if _versions(f"services.{node}") is not None
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
    admin = await asyncpg.connect(database.admin_url, timeout=10)
    try:
        for role, password in ((database.owner, database.owner_password), (database.name, database.runtime_password)):
            exists = await admin.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
            await admin.execute(
                f"{'ALTER' if exists else 'CREATE'} ROLE {role} LOGIN PASSWORD '{_scram_verifier(password)}'"
            )
        if await admin.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            # The detail of an error repeats the row: addresses, and hashes of passwords.
            await admin.execute(f"ALTER ROLE {database.name} SET log_error_verbosity = 'terse'")
        else:
            await admin.execute(f"GRANT {database.owner} TO CURRENT_USER")
        if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database.name):
            await admin.execute(
                f"CREATE DATABASE {database.name} OWNER {database.owner} TEMPLATE template0 ENCODING 'UTF8'"
            )
        await admin.execute(
            f"REVOKE ALL ON DATABASE {database.name} FROM PUBLIC; GRANT CONNECT ON DATABASE "
            f"{database.name} TO {database.name}"
        )
    finally:
        await admin.close()
    owner = await asyncpg.connect(database.owner_url, timeout=10)
    try:
        await owner.execute(
            f"GRANT USAGE ON SCHEMA public TO {database.name};"
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON "
            f"TABLES TO {database.name};"
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO {database.name};"
        )
    finally:
        await owner.close()


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


def newest_revision(package: str) -> str | None:
    """The revision that the migrations of a package lead to.

    It is read without running them: Alembic and SQLAlchemy take half a second to import.
    """
    revisions: dict[str, str | None] = {}
    for script in sorted((_versions(package) or Path()).glob("*.py")):
        values = dict(_constants(ast.parse(script.read_text())))
        if revision := values.get("revision"):
            revisions[revision] = values.get("down_revision")
    heads = revisions.keys() - set(revisions.values())
    return heads.pop() if len(heads) == 1 else None


def _constants(module: ast.Module) -> Sequence[tuple[str, str | None]]:
    found = []
    for statement in module.body:
        targets: Sequence[ast.expr]
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign):
            targets, value = [statement.target], statement.value or ast.Constant(None)
        else:
            continue
        if isinstance(value, ast.Constant) and (value.value is None or isinstance(value.value, str)):
            found += [(target.id, value.value) for target in targets if isinstance(target, ast.Name)]
    return found


def _versions(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        versions = Path(location) / "migrations" / "versions"
        if versions.is_dir():
            return versions
    return None


def _as_role(admin_url: str, database: str, role: str, password: str = "") -> str:
    parts = urlsplit(admin_url)
    host = parts.netloc.rpartition("@")[2]
    identity = f"{quote(role)}:{quote(password, safe='')}" if password else quote(role)
    return urlunsplit(parts._replace(netloc=f"{identity}@{host}", path=f"/{database}"))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _scram_verifier(password: str) -> str:
    """What the server stores (RFC 5803), computed here: the password itself could end up in its log."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded: Mapping[str, str] = {
        name: base64.b64encode(value).decode()
        for name, value in (("salt", salt), ("stored", stored), ("server", server))
    }
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{encoded['salt']}${encoded['stored']}:{encoded['server']}"


def publish_urls(databases: Sequence[ServiceDatabase], file: Path) -> None:
    """Notes the addresses of the services' databases in a private file.

    Commands that work on a database beside the running service read it.

    Raises:
        OperatorError: it can't be written.
    """
    write_private(file, json.dumps({database.node: database.url for database in databases}).encode())
