"""PostgreSQL, as stores use it: SQL text over asyncpg.

An outage is `Unavailable`, whatever its shape, so no store handles one.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import asyncpg
import structlog

from mesh.errors import Reason, Unavailable
from mesh.origin import current_origin
from mesh.runtime.part import Part
from mesh.runtime.shares import FairQueue
from mesh.secrets.login import Login, Logins
from mesh.secrets.source import SecretUnavailableError
from mesh.telemetry.metrics import DATABASE_CONNECTIONS
from mesh.telemetry.tracing import span, statement_name

if TYPE_CHECKING:
    from mesh.settings import DatabaseSettings

ACQUIRE_SECONDS = 3.0
LOCK_SECONDS = 2.0
"""How long a statement waits for a lock: it holds a connection meanwhile. Longer than the deadlock_timeout of
PostgreSQL, so that of two one wins.
"""
KEPT_CONNECTIONS = 2
"""Connections of a pool that calls don't get: a flood of them must not stop the relay, or the ping that readiness goes
by.
"""
CALLERS_PART = 2.0
"""How many of the other connections one caller may hold, as a multiple of those that are free
(`mesh.runtime.shares`)."""
COMMAND_SECONDS = 10.0
PING_SECONDS = 1.0
FIRST_PING_SECONDS = 0.1
START_SECONDS = 10.0
"""How long a database may take to answer for the first time before that is worth a warning."""
REREAD_SECONDS = 60.0
"""How often a login that may be rotated is read again."""
RELEASE_SECONDS = 1.0
"""How long a statement that was given up may take to end before its connection is."""

_log = structlog.get_logger("authmesh.database")

_LOST = (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InternalClientError)
# SQLSTATE classes that tell of the server and not of the statement: no connection (08), the wrong kind of transaction
# (25: a server that takes no changes, a limit on idle ones), a rival (40), no resources (53), not in the state for it
# (55: a lock that was waited for too long), an operator or a time limit (57), a failure of the system around it (58).
_STATES_OF_THE_SERVER = frozenset({"08", "25", "40", "53", "55", "57", "58"})


def _unavailable(message: str = "the database is out of reach: try again") -> Unavailable:
    return Unavailable(Reason.DEPENDENCY_UNAVAILABLE, message)


@contextmanager
def _outage_is_unavailable(connection: "asyncpg.Connection[Any]") -> Iterator[None]:
    try:
        yield
    except _LOST as error:
        raise _unavailable() from error
    except asyncpg.ReadOnlySQLTransactionError as error:
        # A failover made a replica of the server, as a rule: another connection may lead to the one that takes changes.
        connection.terminate()
        raise _unavailable("the database takes no changes now: try again") from error
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "")[:2] in _STATES_OF_THE_SERVER:
            raise _unavailable("the database can't do this now: try again") from error
        # It repeats the row ("Key (email)=(ada@...) already exists"), and what a fault says is logged.
        error.detail = None
        raise
    except asyncpg.InterfaceError as error:
        if not _lost(connection):
            raise
        raise _unavailable() from error


@contextmanager
def _statement(connection: "asyncpg.Connection[Any]", sql: str) -> Iterator[None]:
    with span(statement_name(sql), client=True, db_system="postgresql"), _outage_is_unavailable(connection):
        yield


def _lost(connection: "asyncpg.Connection[Any]") -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        # The pool takes a connection back as soon as it breaks, and its proxy refuses every question then.
        return True


class _Connection(asyncpg.Connection):
    """Goes back to the pool without the reset query, a quarter of a small statement's cost.

    No code here leaves session state behind.
    """

    def get_reset_query(self) -> str:
        return ""


class Transaction:
    """An open transaction. Everything in it is committed together when its block ends, or nothing is."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self.after_commit: dict[Callable[[], None], None] = {}
        """Called, once each and in order, when the commit is durable."""

    async def execute(self, sql: str, *args: object) -> str:
        """Runs a statement. Returns PostgreSQL's command tag: `UPDATE 1`."""
        with _statement(self._connection, sql):
            return await self._connection.execute(sql, *args)

    async def executemany(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Runs a statement once for each row of arguments."""
        with _statement(self._connection, sql):
            await self._connection.executemany(sql, rows)

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """All rows."""
        with _statement(self._connection, sql):
            return await self._connection.fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: object) -> asyncpg.Record | None:
        """The first row, or None."""
        with _statement(self._connection, sql):
            return await self._connection.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: object) -> Any:
        """The first column of the first row, or None."""
        with _statement(self._connection, sql):
            return await self._connection.fetchval(sql, *args)


class Database(Part):
    """A pool of connections of one service to its own database. Single statements run in autocommit: one round trip."""

    name = "database"

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", logins: Logins | None = None) -> None:
        self._pool = pool
        self._logins = logins
        self._calls = FairQueue(max(1, pool.get_max_size() - KEPT_CONNECTIONS), CALLERS_PART)
        DATABASE_CONNECTIONS.labels("open").set_function(pool.get_size)
        DATABASE_CONNECTIONS.labels("idle").set_function(pool.get_idle_size)
        self.healthy = False
        """Whether the last ping of `run` was answered. It says nothing of changes: what only reads goes on without
        them."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, *, size: int = 8, plan_for_values: bool = False, logins: Logins | None = None
    ) -> AsyncIterator[Self]:
        """A database at `url`.

        Does not connect yet: a process starts, and says that it isn't ready, while PostgreSQL is unavailable.

        Args:
            url: `postgresql://...`.
            size: The most connections.
            plan_for_values: Plans each statement for the values it is given. From its sixth run on, PostgreSQL may
                take one plan for all values, which is a bad one where a condition fits most rows or hardly any.
            logins: What takes the place of user name and password in the URL. When they are others, each connection
                is replaced as soon as no one uses it.
        """
        pool = asyncpg.create_pool(
            url,
            min_size=0,
            max_size=size,
            connection_class=_Connection,
            connect=partial(_connect, logins) if logins else None,
            timeout=START_SECONDS,
            command_timeout=COMMAND_SECONDS,
            server_settings={
                "lock_timeout": f"{LOCK_SECONDS:.0f}s",
                "plan_cache_mode": "force_custom_plan" if plan_for_values else "auto",
            },
        )
        await pool
        try:
            yield cls(pool, logins)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(ACQUIRE_SECONDS):
                    await pool.close()
            pool.terminate()

    @classmethod
    def of(cls, settings: "DatabaseSettings", *, plan_for_values: bool = False) -> AbstractAsyncContextManager[Self]:
        """The database of a service. See `open`."""
        logins = Logins.of(settings.database_secret)
        return cls.open(settings.database_url.get_secret_value(), plan_for_values=plan_for_values, logins=logins)

    @asynccontextmanager
    async def _connection(self, seconds: float = 0) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """A connection of the pool.

        Calls share those that are not kept for background work: a free one goes to the caller who holds the fewest.
        """
        origin = current_origin()
        holder = origin.principal if origin else None
        if holder is not None:
            try:
                await self._calls.enter(holder, ACQUIRE_SECONDS)
            except TimeoutError as error:
                raise _unavailable() from error
        try:
            try:
                connection = await self._pool.acquire(timeout=seconds or ACQUIRE_SECONDS)
            except (*_LOST, asyncpg.PostgresError, asyncpg.InterfaceError, SecretUnavailableError) as error:
                # A server that lets us not in (a role or password being changed) is as far away as one that is down.
                raise _unavailable() from error
            try:
                yield connection  # type: ignore[misc]
            finally:
                with suppress(*_LOST, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await self._pool.release(connection, timeout=RELEASE_SECONDS)
        finally:
            if holder is not None:
                self._calls.leave(holder)

    @asynccontextmanager
    async def transaction(
        self, *, isolation: str = "read_committed", readonly: bool = False
    ) -> AsyncIterator[Transaction]:
        """Opens a transaction: commits when the block ends, rolls back when it raises.

        Raises:
            Unavailable: DEPENDENCY_UNAVAILABLE. If the connection broke during the commit, whether it happened is
                unknown.
        """
        async with self._connection() as connection:
            transaction = Transaction(connection)
            block = connection.transaction(isolation=isolation, readonly=readonly)  # type: ignore[arg-type]
            with _statement(connection, "BEGIN"):
                await block.start()
            try:
                yield transaction
            except BaseException:
                # What breaks now rolls back too: the server does when it loses us, and the pool closes a connection
                # that it can't clean.
                with suppress(*_LOST, asyncpg.PostgresError, asyncpg.InterfaceError):
                    async with asyncio.timeout(RELEASE_SECONDS):
                        await block.rollback()
                raise
            with _statement(connection, "COMMIT"):
                await block.commit()
            for call in transaction.after_commit:
                call()

    async def execute(self, sql: str, *args: object) -> str:
        """Runs a statement. Returns PostgreSQL's command tag: `UPDATE 1`."""
        async with self._connection() as connection:
            return await Transaction(connection).execute(sql, *args)

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """All rows."""
        async with self._connection() as connection:
            return await Transaction(connection).fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: object) -> asyncpg.Record | None:
        """The first row, or None."""
        async with self._connection() as connection:
            return await Transaction(connection).fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: object) -> Any:
        """The first column of the first row, or None."""
        async with self._connection() as connection:
            return await Transaction(connection).fetchval(sql, *args)

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        return self.healthy

    async def run(self) -> None:
        """Pings every second, and until the first answer more often, and keeps `healthy` true to the answer.

        It says once when the server goes, comes back, or begins or ceases to take changes: no one else has to.
        """
        async with asyncio.TaskGroup() as tasks:
            if self._logins:
                tasks.create_task(self._follow_logins(self._logins))
            tasks.create_task(self._ping())

    async def _ping(self) -> None:
        started, state = time.monotonic(), _State.UNKNOWN
        while True:
            now, cause = await self._ask(START_SECONDS if state is _State.UNKNOWN else PING_SECONDS)
            self.healthy = now is not _State.AWAY
            starting = state is _State.UNKNOWN and not self.healthy and time.monotonic() - started < START_SECONDS
            if now is not state and not starting:
                _log.log(
                    logging.INFO if now is _State.WRITABLE else logging.WARNING,
                    now.value,
                    **({"cause": cause} if cause else {}),
                )
                state = now
            await asyncio.sleep(FIRST_PING_SECONDS if state is _State.UNKNOWN else PING_SECONDS)

    async def _follow_logins(self, logins: Logins) -> None:
        """Has connections replaced that were made with what is not the first login any more."""
        before = await logins.current()
        while True:
            await asyncio.sleep(REREAD_SECONDS)
            now = await logins.current()
            if before and now and now != before:
                _log.info("database login rotated")
                await self._replace_connections()
            before = now or before

    async def _replace_connections(self) -> None:
        """Makes each connection anew: one in use when it is needed next, the others at once."""
        await self._pool.expire_connections()
        async with AsyncExitStack() as held:
            for _ in range(self._pool.get_idle_size()):
                with suppress(Unavailable):
                    await held.enter_async_context(self._connection())

    async def _ask(self, seconds: float) -> tuple["_State", str]:
        try:
            async with asyncio.timeout(seconds), self._connection(seconds) as connection:
                if await Transaction(connection).fetchval("SELECT current_setting('transaction_read_only')") == "off":
                    return _State.WRITABLE, ""
                connection.terminate()
                return _State.READ_ONLY, ""
        except (Unavailable, TimeoutError) as error:
            return _State.AWAY, type(error.__cause__ or error).__name__


async def _connect(logins: Logins, *args: Any, **options: Any) -> Any:
    """A connection with the first login that the server lets in."""

    async def connect(login: Login) -> Any:
        identity = {"password": login.password} | ({"user": login.username} if login.username else {})
        return await asyncpg.connect(*args, **(options | identity))

    # A wrong password, or a role that is not there or may not log in.
    return await logins.enter(connect, asyncpg.InvalidAuthorizationSpecificationError)


class _State(Enum):
    """What the last ping found, and the line that says so."""

    UNKNOWN = ""
    WRITABLE = "database answers"
    READ_ONLY = "database takes no changes"
    AWAY = "database out of reach"
