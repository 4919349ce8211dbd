"""Stores see rows, their own mistakes and refusals; an outage of PostgreSQL, whatever its shape, is one error, and
passes by itself."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import asyncpg
import pytest
import structlog.testing

import mesh.storage.database
from mesh.contract import Contract
from mesh.errors import NotFound, Reason, Unavailable
from mesh.local.components import postgres
from mesh.local.infra import Infra
from mesh.local.supervisor import supervised
from mesh.rpc.call import set_current_call
from mesh.storage.database import Database
from tests.kit.calls import call_from_edge


@pytest.fixture(scope="module")
async def url(empty_database_url: Callable[[], Awaitable[str]]) -> str:
    address = await empty_database_url()
    connection = await asyncpg.connect(address)
    await connection.execute("CREATE TABLE thing (name text PRIMARY KEY, size integer)")
    await connection.close()
    return address


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with Database.open(url) as opened:
        await opened.execute("TRUNCATE thing")
        yield opened


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def names(database: Database) -> list[str]:
    return [row["name"] for row in await database.fetch("SELECT name FROM thing ORDER BY name")]


async def pid_of(target: Any) -> int:
    return int(await target.fetchval("SELECT pg_backend_pid()"))


async def sleeping(url: str) -> None:
    """Returns when a session of the database sleeps."""
    admin = await asyncpg.connect(url)
    while not await admin.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    ):
        await asyncio.sleep(0.01)
    await admin.close()


async def end_sessions(url: str) -> None:
    """Ends every session of the database, as an operator or a failover does."""
    admin = await asyncpg.connect(url)
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid()"
    )
    await admin.close()


async def test_a_database_plans_for_values_where_it_is_told_to(url: str) -> None:
    for plan_for_values, expected in ((True, [(8, 0)]), (False, [(5, 3)])):
        async with Database.open(url, size=1, plan_for_values=plan_for_values) as database:
            for _ in range(8):
                await database.fetchval("SELECT size FROM thing WHERE name = $1", "a")
            rows = await database.fetch(
                "SELECT custom_plans, generic_plans FROM pg_prepared_statements WHERE statement LIKE '%$1' ORDER BY 1"
            )
            assert [tuple(row) for row in rows] == expected


async def as_caller(address: str, work: Callable[[], Awaitable[Any]]) -> Any:
    """Does `work` as a call of a client at this address."""
    rpc = next(rpc for rpc in Contract.load().rpcs.values() if rpc.kind == "public")
    set_current_call(call_from_edge(rpc, ("x-envoy-external-address", address)))
    return await work()


async def test_statements_give_tags_rows_and_values(database: Database) -> None:
    assert await database.execute("INSERT INTO thing VALUES ($1, $2)", "a", 1) == "INSERT 0 1"
    assert await database.fetchval("SELECT size FROM thing WHERE name = $1", "a") == 1
    assert await database.fetchrow("SELECT * FROM thing WHERE name = 'b'") is None
    assert await names(database) == ["a"]


async def test_a_transaction_is_kept_whole(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.executemany("INSERT INTO thing VALUES ($1, $2)", [("a", 1), ("b", 2)])
        assert await names(database) == [], "nobody sees it before its end"
    assert await names(database) == ["a", "b"]


async def test_a_refusal_rolls_a_transaction_back_and_stays_what_it_was(database: Database) -> None:
    with pytest.raises(NotFound):
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO thing VALUES ('a', 1)")
            raise NotFound(Reason.USER_NOT_FOUND, "no")
    assert await names(database) == []


async def test_a_cancelled_transaction_leaves_nothing_and_its_connection_is_good_again(url: str) -> None:
    async with Database.open(url, size=1) as database:

        async def work() -> None:
            async with database.transaction() as tx:
                await tx.execute("INSERT INTO thing VALUES ('cancelled', 1)")
                await tx.execute("SELECT pg_sleep(60)")

        task = asyncio.create_task(work())
        await sleeping(url)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "cancelled" not in await names(database)


@pytest.mark.parametrize(
    "error",
    [OSError("disk"), TimeoutError("elsewhere"), ConnectionRefusedError("elsewhere")],
    ids=lambda error: type(error).__name__,
)
async def test_a_failure_of_something_else_within_a_transaction_is_not_blamed_on_the_database(
    database: Database, error: Exception
) -> None:
    with pytest.raises(type(error)):
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO thing VALUES ('a', 1)")
            raise error
    assert await names(database) == []


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELEKT", asyncpg.PostgresSyntaxError),
        ("SELECT * FROM nothing", asyncpg.UndefinedTableError),
        ("INSERT INTO thing VALUES (NULL)", asyncpg.NotNullViolationError),
        ("SELECT 1/0", asyncpg.DivisionByZeroError),
    ],
)
async def test_a_wrong_statement_is_no_outage(database: Database, statement: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await database.execute(statement)
    with pytest.raises(error):
        async with database.transaction() as tx:
            await tx.execute(statement)
    with pytest.raises(asyncpg.DataError):
        await database.execute("INSERT INTO thing VALUES ($1, $2)", "a", "no number")
    assert await database.fetchval("SELECT 1") == 1


async def test_a_violated_constraint_does_not_repeat_the_value_which_may_be_somebodys(database: Database) -> None:
    await database.execute("INSERT INTO thing VALUES ('ada@example.org', 1)")
    with pytest.raises(asyncpg.UniqueViolationError) as violated:
        await database.execute("INSERT INTO thing VALUES ('ada@example.org', 1)")
    assert "ada@example.org" not in str(violated.value)
    assert violated.value.constraint_name == "thing_pkey"


async def test_what_a_transaction_asked_for_happens_once_it_is_kept_and_never_otherwise(database: Database) -> None:
    happened: list[str] = []

    def note() -> None:
        happened.append("kept")

    with pytest.raises(NotFound):
        async with database.transaction() as tx:
            tx.after_commit[note] = None
            raise NotFound(Reason.USER_NOT_FOUND, "no")
    assert not happened
    async with database.transaction() as tx:
        tx.after_commit[note] = None
        tx.after_commit[note] = None
        assert not happened
    assert happened == ["kept"]


async def test_rivals_that_deadlock_may_try_again(database: Database) -> None:
    await database.execute("INSERT INTO thing VALUES ('a', 1), ('b', 1)")
    both = asyncio.Barrier(2)

    async def take(first: str, second: str) -> bool:
        try:
            async with database.transaction() as tx:
                await tx.execute("UPDATE thing SET size = 2 WHERE name = $1", first)
                await both.wait()
                await tx.execute("UPDATE thing SET size = 3 WHERE name = $1", second)
        except Unavailable:
            return False
        return True

    assert sorted(await asyncio.gather(take("a", "b"), take("b", "a"))) == [False, True]


@contextlib.asynccontextmanager
async def setting(url: str, name: str, value: str) -> AsyncIterator[None]:
    """What an operator sets for the database: new sessions have it."""

    async def alter(change: str) -> None:
        admin = await asyncpg.connect(url, server_settings={"default_transaction_read_only": "off"})
        database = await admin.fetchval("SELECT current_database()")
        await admin.execute(f"ALTER DATABASE {database} {change}")
        await admin.close()

    await alter(f"SET {name} = '{value}'")
    try:
        yield
    finally:
        await alter(f"RESET {name}")


async def test_a_server_that_takes_no_changes_is_an_outage_for_changes_only(url: str, database: Database) -> None:
    await database.execute("INSERT INTO thing VALUES ('a', 1)")
    async with setting(url, "default_transaction_read_only", "on"), Database.open(url, size=1) as limited:
        before = await pid_of(limited)
        assert await names(limited) == ["a"]
        for change in ("INSERT INTO thing VALUES ('b', 1)", "SELECT * FROM thing FOR UPDATE", "CREATE TABLE other ()"):
            with pytest.raises(Unavailable) as outage:
                await limited.execute(change)
            assert outage.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        with pytest.raises(Unavailable):
            async with limited.transaction() as tx:
                assert await tx.fetchval("SELECT count(*) FROM thing") == 1
                await tx.execute("INSERT INTO thing VALUES ('b', 1)")
        # Another connection may lead to the server that took its place.
        assert await pid_of(limited) != before
        assert await names(limited) == ["a"]


async def test_the_watch_says_once_that_changes_are_refused_and_that_they_are_taken_again(url: str) -> None:
    with structlog.testing.capture_logs() as logs:
        async with Database.open(url, size=2) as database:
            watching = asyncio.create_task(database.run())

            async def said(count: int) -> list[str]:
                await until(lambda: len(logs) >= count, 20)
                return [f"{line['log_level']}: {line['event']}" for line in logs]

            await said(1)
            async with setting(url, "default_transaction_read_only", "on"):
                await end_sessions(url)
                while (await said(1))[-1] != "warning: database takes no changes":
                    await asyncio.sleep(0.01)
                for _ in range(5):
                    with pytest.raises(Unavailable):
                        await database.execute("INSERT INTO thing VALUES ('b', 1)")
                assert database.healthy, "reads go on"
                count = len(logs)
            # No session has to be ended: each that refused a change was given up.
            assert (await said(count + 1))[-1] == "info: database answers"
            assert sum("no changes" in line for line in await said(1)) == 1
            await database.execute("INSERT INTO thing VALUES ('c', 1)")
            watching.cancel()


@pytest.mark.parametrize(
    ("name", "value"),
    [("statement_timeout", "50ms"), ("lock_timeout", "50ms"), ("idle_in_transaction_session_timeout", "50ms")],
)
async def test_a_time_limit_of_the_server_is_an_outage_and_the_next_statement_works(
    url: str, database: Database, name: str, value: str
) -> None:
    await database.execute("INSERT INTO thing VALUES ('a', 1)")
    async with setting(url, name, value), Database.open(url, size=1) as limited, database.transaction() as rival:
        await rival.execute("UPDATE thing SET size = 2")
        with pytest.raises(Unavailable) as outage:
            async with limited.transaction() as tx:
                if name == "idle_in_transaction_session_timeout":
                    await rival.execute("SELECT pg_sleep(0.3)")
                await tx.execute("UPDATE thing SET size = 3")
        assert outage.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        assert await names(limited) == ["a"]


async def test_a_statement_that_an_operator_cancels_is_an_outage(url: str, database: Database) -> None:
    running = asyncio.create_task(database.execute("SELECT pg_sleep(60)"))
    await sleeping(url)
    admin = await asyncpg.connect(url)
    await admin.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND "
        "datname = current_database()"
    )
    await admin.close()
    with pytest.raises(Unavailable):
        await running


def test_every_error_that_tells_of_the_server_s_state_is_an_outage_and_no_other_is() -> None:
    """asyncpg has a class for each SQLSTATE; nobody can provoke all of them."""
    kinds = [
        kind
        for kind in vars(asyncpg.exceptions).values()
        if isinstance(kind, type) and issubclass(kind, asyncpg.PostgresError)
    ]
    for kind in kinds:
        sqlstate = getattr(kind, "sqlstate", None) or ""
        expected = Unavailable if sqlstate[:2] in ("08", "25", "40", "53", "55", "57", "58") else kind
        with pytest.raises(expected), mesh.storage.database._outage_is_unavailable(Mock()):
            raise kind("the message")
    assert len(kinds) > 200


async def test_a_session_that_was_ended_is_an_outage_and_the_next_statement_works(url: str, database: Database) -> None:
    async with Database.open(url, size=1) as other:
        await other.fetchval("SELECT 1")
        running = asyncio.create_task(other.execute("SELECT pg_sleep(60)"))
        await sleeping(url)
        await end_sessions(url)
        with pytest.raises(Unavailable) as outage:
            await running
        assert outage.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        assert await other.fetchval("SELECT 1") == 1


async def test_a_session_that_was_ended_within_a_transaction_is_an_outage_and_leaves_nothing(
    url: str, database: Database
) -> None:
    happened: list[int] = []
    with pytest.raises(Unavailable):
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO thing VALUES ('a', 1)")
            tx.after_commit[lambda: happened.append(1)] = None
            await end_sessions(url)
            await tx.execute("INSERT INTO thing VALUES ('b', 1)")
    assert not happened
    assert await names(database) == []


async def test_a_session_that_was_ended_before_the_commit_is_an_outage(url: str, database: Database) -> None:
    with pytest.raises(Unavailable):
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO thing VALUES ('a', 1)")
            await end_sessions(url)
    assert await names(database) == []


async def test_a_pool_in_use_up_is_an_outage_for_who_waited_too_long_and_nobody_else(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh.storage.database, "ACQUIRE_SECONDS", 0.2)
    async with Database.open(url, size=1) as database:
        async with database.transaction() as tx:
            with pytest.raises(Unavailable):
                await database.fetchval("SELECT 1")
            assert await tx.fetchval("SELECT 1") == 1
        assert await database.fetchval("SELECT 1") == 1


async def test_a_server_that_has_no_room_is_an_outage(
    url: str, empty_database_url: Callable[[], Awaitable[str]]
) -> None:
    crowded = await empty_database_url()
    admin = await asyncpg.connect(url)
    role = "ordinary"
    await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p' CONNECTION LIMIT 0")
    await admin.close()
    async with Database.open(as_role(crowded, role, "p")) as database:
        with pytest.raises(Unavailable):
            await database.fetchval("SELECT 1")


def as_role(url: str, role: str, password: str) -> str:
    return f"postgresql://{role}:{password}@{url.partition('@')[2]}"


@pytest.mark.parametrize("where", ["role", "password", "database", "socket"])
async def test_a_server_that_lets_nobody_in_is_an_outage_not_a_fault(url: str, where: str) -> None:
    wrong = {
        "role": as_role(url, "nobody_at_all", "p"),
        "password": as_role(url, "postgres", "wrong"),
        "database": url.replace("/empty_", "/missing_"),
        "socket": "postgresql://postgres:p@/postgres?host=/nowhere",
    }[where]
    async with Database.open(wrong) as database:
        with pytest.raises(Unavailable) as outage:
            await database.fetchval("SELECT 1")
        assert "wrong" not in str(outage.value)
        watching = asyncio.create_task(database.run())
        await asyncio.sleep(0.05)
        assert not watching.done()
        assert not database.healthy
        watching.cancel()


async def test_a_statement_that_hangs_is_given_up_and_so_is_its_session(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh.storage.database, "COMMAND_SECONDS", 0.1)
    async with Database.open(url, size=1) as database:
        with pytest.raises(Unavailable):
            await database.execute("SELECT pg_sleep(60)")
        assert await database.fetchval("SELECT 1") == 1


async def test_a_frozen_session_makes_the_database_unhealthy_until_another_one_takes_its_place(url: str) -> None:
    async with Database.open(url, size=1) as database:
        watching = asyncio.create_task(database.run())
        await until(lambda: database.healthy)
        frozen = await pid_of(database)
        os.kill(frozen, signal.SIGSTOP)
        try:
            await until(lambda: not database.healthy, 5)
            # Only this session is frozen: it is given up, and another one takes its place.
            await until(lambda: database.healthy, 5)
            assert await pid_of(database) != frozen
        finally:
            os.kill(frozen, signal.SIGCONT)
        watching.cancel()


async def test_a_killed_server_is_an_outage_and_is_found_again_without_a_restart_of_ours(tmp_path: Path) -> None:
    server = await postgres.prepare(Infra.find(), tmp_path, durable=False)
    try:
        async with (
            supervised(server.program, tmp_path / "processes") as child,
            Database.open(server.admin_url) as database,
        ):
            watching = asyncio.create_task(database.run())
            await until(lambda: database.healthy)
            assert child.pid
            os.kill(child.pid, signal.SIGKILL)
            failures = 0
            async with asyncio.timeout(20):
                while not (await answers(database) and failures):
                    failures += not await answers(database)
                    await asyncio.sleep(0.01)
            await until(lambda: database.healthy)
            watching.cancel()
    finally:
        server.undo.close()


async def answers(database: Database) -> bool:
    try:
        return await database.fetchval("SELECT true") is True
    except Unavailable:
        return False


async def test_one_caller_has_a_part_of_the_connections_and_another_does_not_wait_for_theirs(url: str) -> None:
    async with Database.open(url) as database:

        async def sleep() -> None:
            await database.execute("SELECT pg_sleep(0.5)")

        async def ask() -> float:
            began = time.monotonic()
            await database.fetchval("SELECT 1")
            return time.monotonic() - began

        busy = [asyncio.ensure_future(as_caller("192.0.2.1", sleep)) for _ in range(12)]
        await sleeping(url)
        assert await asyncio.ensure_future(as_caller("192.0.2.2", ask)) < 0.4
        began = time.monotonic()
        await asyncio.gather(*busy)
        # Four at a time: what nobody else wants, they get.
        assert 1 <= time.monotonic() - began < 2


async def test_calls_leave_connections_for_background_work(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh.storage.database, "ACQUIRE_SECONDS", 0.3)
    async with Database.open(url) as database:

        async def sleep() -> None:
            await database.execute("SELECT pg_sleep(1)")

        calls = [asyncio.ensure_future(as_caller(f"192.0.2.{number}", sleep)) for number in range(20)]
        await sleeping(url)
        assert await database.fetchval("SELECT 1") == 1
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(outcome is None for outcome in outcomes) == 6
        assert {type(outcome) for outcome in outcomes if outcome} == {Unavailable}


async def test_a_lock_is_waited_for_a_moment_and_not_longer(database: Database) -> None:
    await database.execute("INSERT INTO thing VALUES ('a', 1)")
    async with database.transaction() as tx:
        await tx.execute("SELECT FROM thing FOR UPDATE")
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await database.execute("UPDATE thing SET size = 2")
        assert (
            mesh.storage.database.LOCK_SECONDS <= time.monotonic() - began < mesh.storage.database.COMMAND_SECONDS / 2
        )
    await database.execute("UPDATE thing SET size = 2")
