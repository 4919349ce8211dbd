"""`python -m mesh.storage.provisioning auth token …`: databases and roles of services, as a step before they start.

Each service has a database of its own, an owner role that migrates it and a runtime role that may change rows and
nothing else. What is there already stays as it is, passwords as well: Secrets Manager rotates them. Then the databases
are brought up to date (`mesh.storage.migrations`).

`ADMIN_URL` is the address of the server with a role that may make roles and databases; `ADMIN_SECRET`, and
`<NAME>_OWNER_SECRET` and `<NAME>_DATABASE_SECRET` for each service, are references to what `mesh.secrets` reads.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from mesh.secrets.login import Login, Logins
from mesh.secrets.source import SecretUnavailableError

SCRAM_ITERATIONS = 4096
"""PostgreSQL's own default. The passwords are 192 random bits: more would only cost time at each connection."""
_CONNECT_SECONDS = 10


def database_name(node: str) -> str:
    """Of a service's database and of its runtime role; `…_owner` migrates."""
    return f"authmesh_{node.replace('-', '_')}"


def owner_name(node: str) -> str:
    """Of the role that migrates."""
    return f"{database_name(node)}_owner"


def as_role(url: str, database: str, role: str, password: str = "") -> str:
    """The address of another database on the same server, for another role."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    identity = f"{quote(role)}:{quote(password, safe='')}" if password else quote(role)
    return urlunsplit(parts._replace(netloc=f"{identity}@{host}", path=f"/{database}"))


async def provision(
    admin_url: str, node: str, *, owner_password: str, runtime_password: str, keep_passwords: bool = False
) -> None:
    """Makes the roles and the database of a service, where they are missing.

    Args:
        admin_url: Address with a role that may make roles and databases.
        node: The service.
        owner_password: Of the role that migrates.
        runtime_password: Of the role that the service has.
        keep_passwords: Whether roles that are there keep theirs.

    Raises:
        OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError: the server can't be reached or refuses.
    """
    name, owner = database_name(node), owner_name(node)
    admin = await asyncpg.connect(admin_url, timeout=_CONNECT_SECONDS)
    try:
        for role, password in ((owner, owner_password), (name, runtime_password)):
            exists = await admin.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
            if not (exists and keep_passwords):
                await admin.execute(
                    f"{'ALTER' if exists else 'CREATE'} ROLE {role} LOGIN PASSWORD '{_scram_verifier(password)}'"
                )
        if await admin.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            # The detail of an error repeats the row: addresses, and hashes of passwords.
            await admin.execute(f"ALTER ROLE {name} SET log_error_verbosity = 'terse'")
        else:
            await admin.execute(f"GRANT {owner} TO CURRENT_USER")
        if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await admin.execute(f"CREATE DATABASE {name} OWNER {owner} TEMPLATE template0 ENCODING 'UTF8'")
        await admin.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT ON DATABASE {name} TO {name}")
    finally:
        await admin.close()


async def grant_rows(owner_url: str, node: str) -> None:
    """Gives the runtime role what it may do with the tables that its owner will make.

    Raises:
        OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError: the server can't be reached or refuses.
    """
    name = database_name(node)
    owner = await asyncpg.connect(owner_url, timeout=_CONNECT_SECONDS)
    try:
        await owner.execute(
            f"GRANT USAGE ON SCHEMA public TO {name};"
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {name};"
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO {name};"
        )
    finally:
        await owner.close()


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


async def main(nodes: list[str], environment: Callable[[str], str | None] = os.environ.get) -> None:
    """Makes the databases of the named services, one after the other, and brings them up to date.

    Raises:
        SystemExit: a variable is missing, a secret can't be read, or the server refuses; with one line that says so.
    """
    variables = ["ADMIN_URL", "ADMIN_SECRET"]
    for node in nodes:
        variables += [f"{_prefix(node)}_OWNER_SECRET", f"{_prefix(node)}_DATABASE_SECRET"]
    given = {name: environment(name) or "" for name in variables}
    if missing := [name for name, value in given.items() if not value]:
        sys.exit(f"authmesh: environment variables are missing: {', '.join(missing)}")
    doing = "a secret can't be read"
    try:
        logins = {name: await _login(name, value) for name, value in given.items() if name.endswith("_SECRET")}
        admin_url = _with_login(given["ADMIN_URL"], logins["ADMIN_SECRET"])
        for node in nodes:
            doing = f"the database of {node} can't be made"
            owner = logins[f"{_prefix(node)}_OWNER_SECRET"].password or ""
            runtime = logins[f"{_prefix(node)}_DATABASE_SECRET"].password or ""
            await provision(admin_url, node, owner_password=owner, runtime_password=runtime, keep_passwords=True)
            owner_url = as_role(admin_url, database_name(node), owner_name(node), owner)
            await grant_rows(owner_url, node)
            print(f"{node} has its database at revision {await _migrated(owner_url, node)}", flush=True)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, SecretUnavailableError) as error:
        sys.exit(f"authmesh: {doing}: {(str(error) or type(error).__name__).splitlines()[0]}")


async def _migrated(owner_url: str, node: str) -> str:
    # Alembic and SQLAlchemy take half a second to import, and others of this module's users want neither.
    from mesh.storage.migrations import migrate

    return await migrate(owner_url, f"services.{node}")


def _prefix(node: str) -> str:
    return node.replace("-", "_").upper()


async def _login(variable: str, reference: str) -> Login:
    """What a secret holds as it is now.

    Raises:
        SecretUnavailableError: it can't be read, or has no password.
    """
    logins = Logins.of(reference)
    found = await logins.current() if logins else None
    if found is None or not found.password:
        raise SecretUnavailableError(f"{variable} ({reference})")
    return found


def _with_login(url: str, login: Login) -> str:
    parts = urlsplit(url)
    role = login.username or parts.username or "postgres"
    return as_role(url, parts.path.removeprefix("/"), role, login.password or "")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
