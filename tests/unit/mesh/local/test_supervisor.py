"""Processes are kept running, and stopped in order."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mesh.local.child import Child, last_line, last_words
from mesh.local.process import Program
from mesh.local.supervisor import Supervisor
from mesh.operator.errors import OperatorError
from mesh.operator.status import Health
from tests.kit.conditions import until

SLEEP = ("/bin/sleep", "60")


async def always() -> bool:
    return True


async def never() -> bool:
    return False


def program(
    tmp_path: Path,
    name: str = "one",
    argv: tuple[str, ...] = SLEEP,
    healthy: Callable[[], Awaitable[bool]] = always,
    grace: float = 5,
) -> Program:
    return Program(
        name=name,
        argv=argv,
        log=tmp_path / f"{name}.log",
        healthy=healthy,
        grace=grace,
        environment={"PATH": os.defpath},
    )


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "processes")
    yield supervisor
    await supervisor.stop()


async def test_a_process_that_dies_comes_back(supervisor: Supervisor, tmp_path: Path) -> None:
    (child,) = supervisor.start([program(tmp_path)])
    await supervisor.healthy([child])
    first = child.pid
    assert first
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.restarts == 1 and child.health is Health.HEALTHY)
    assert child.pid not in {None, first}


async def test_what_a_dead_process_had_started_goes_with_it(supervisor: Supervisor, tmp_path: Path) -> None:
    script = "import os,subprocess,time; print(subprocess.Popen(['/bin/sleep','60']).pid, flush=True); time.sleep(60)"
    (child,) = supervisor.start([program(tmp_path, argv=(sys.executable, "-c", script))])
    log = tmp_path / "one.log"
    await until(lambda: log.exists() and log.read_text().strip() != "")
    grandchild = int(log.read_text().split()[0])
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    await until(lambda: child.restarts == 1)
    await until(
        lambda: not Path(f"/proc/{grandchild}").exists() or " Z " in Path(f"/proc/{grandchild}/stat").read_text()
    )


async def test_one_that_never_starts_is_given_up_with_its_last_words(supervisor: Supervisor, tmp_path: Path) -> None:
    children = supervisor.start(
        [program(tmp_path, argv=("/bin/sh", "-c", "echo no such database; exit 3"), healthy=never)]
    )
    with pytest.raises(OperatorError, match=r"one does not start \(exit 3\): no such database; see .*one.log"):
        await supervisor.healthy(children)


async def test_one_that_is_never_healthy_is_given_up_after_a_while(supervisor: Supervisor, tmp_path: Path) -> None:
    children = supervisor.start([program(tmp_path, healthy=never)])
    with pytest.raises(OperatorError, match="one was not healthy after 0 s"):
        await supervisor.healthy(children, timeout=0.2)


async def test_a_program_that_cannot_be_executed_is_named(supervisor: Supervisor, tmp_path: Path) -> None:
    children = supervisor.start([program(tmp_path, argv=("/no/such/program",), healthy=never)])
    with pytest.raises(OperatorError, match="cannot execute /no/such/program"):
        await supervisor.healthy(children)


async def test_a_log_that_cannot_be_written_is_named(supervisor: Supervisor, tmp_path: Path) -> None:
    (tmp_path / "one.log").mkdir()
    children = supervisor.start([program(tmp_path)])
    with pytest.raises(OperatorError, match="cannot start one"):
        await supervisor.healthy(children)


async def test_stages_stop_in_reverse_order(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path / "processes")
    order = tmp_path / "order"
    script = "trap 'echo {name} >> {order}; exit 0' TERM; while true; do sleep 0.02; done"
    for name in ("database", "service", "edge"):
        argv = ("/bin/sh", "-c", script.format(name=name, order=order))
        await supervisor.healthy(supervisor.start([program(tmp_path, name, argv)]))
    # A shell sets its trap a moment after it was started.
    await asyncio.sleep(0.2)
    await supervisor.stop()
    assert order.read_text().split() == ["edge", "service", "database"]
    assert supervisor.children == []


async def test_one_that_does_not_end_is_killed_after_its_grace(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path / "processes")
    script = (
        "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    (child,) = supervisor.start([program(tmp_path, argv=(sys.executable, "-c", script), grace=0.2)])
    await until(lambda: (tmp_path / "one.log").exists() and (tmp_path / "one.log").read_text() == "deaf\n")
    async with asyncio.timeout(3):
        await supervisor.stop()
    assert child.pid is None


async def test_stopping_one_that_waits_for_its_restart_is_quick(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path / "processes")
    (child,) = supervisor.start([program(tmp_path, argv=("/bin/false",), healthy=never)])
    await until(lambda: child.restarts >= 3)
    async with asyncio.timeout(0.5):
        await supervisor.stop()


async def test_health_is_told_both_ways(supervisor: Supervisor, tmp_path: Path) -> None:
    ill = asyncio.Event()

    async def probe() -> bool:
        return not ill.is_set()

    (child,) = supervisor.start([program(tmp_path, healthy=probe)])
    await supervisor.healthy([child])
    ill.set()
    await until(lambda: child.health is Health.UNHEALTHY)
    assert child.restarts == 0
    ill.clear()
    await until(lambda: child.health is Health.HEALTHY)


async def test_an_orderly_restart_is_not_counted(supervisor: Supervisor, tmp_path: Path) -> None:
    (child,) = supervisor.start([program(tmp_path)])
    await supervisor.healthy([child])
    first = child.pid
    await child.restart()
    assert child.pid != first
    assert (child.restarts, child.health) == (0, Health.HEALTHY)


async def test_the_environment_is_only_what_the_program_says(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "somebody")
    children: list[Child] = supervisor.start(
        [program(tmp_path, argv=("/bin/sh", "-c", "/usr/bin/env; exec /bin/sleep 60"))]
    )
    await supervisor.healthy(children)
    await until(lambda: "PATH=" in (tmp_path / "one.log").read_text())
    assert "AWS_PROFILE" not in (tmp_path / "one.log").read_text()


def test_the_last_words_of_a_traceback_are_its_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "Traceback\n  | sqlalchemy.exc.ProgrammingError: relation is missing\n[SQL: CREATE INDEX]\n+-----------\n"
    )
    assert last_line(log) == "sqlalchemy.exc.ProgrammingError: relation is missing"


def test_the_last_words_of_envoy_are_what_it_lacks_and_not_where_it_was(tmp_path: Path) -> None:
    log = tmp_path / "edge.log"
    log.write_text(
        "[2026-11-26 22:28:46.069][760][critical][assert] [source/common/filesystem/inotify/watcher_impl.cc:25] assert "
        "failure: inotify_fd_ >= 0. Details: Consider increasing value of fs.inotify.max_user_instances via sysctl\n"
        "[2026-11-26 22:28:46.082][760][critical][backtrace] [./source/server/backtrace.h:167] #0: [0x7f5af663d050]\n"
    )
    assert last_line(log) == (
        "inotify_fd_ >= 0. Details: Consider increasing value of fs.inotify.max_user_instances via sysctl"
    )


def test_the_last_words_of_postgresql_are_why_it_ended_and_name_its_directory(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    log.write_text(
        '2026-11-24 12:00:00 UTC [7] @ FATAL:  data directory "/proc/self/fd/9" has invalid permissions\n'
        "2026-11-24 12:00:00 UTC [7] @ DETAIL:  Permissions should be u=rwx (0700) or u=rwx,g=rx (0750).\n"
    )
    server = Program(name="postgres", argv=(), log=log, healthy=never, data=Path("/home/ada/.mesh/postgres/data"))
    assert last_words(server) == (
        'data directory "/home/ada/.mesh/postgres/data" has invalid permissions: '
        f"Permissions should be u=rwx (0700) or u=rwx,g=rx (0750).; see {log}"
    )
    log.write_text(
        "2026-11-24 12:00:00 UTC [7] @ FATAL:  could not write lock file\n"
        "2026-11-24 12:00:00 UTC [7] @ LOG:  shut down\n"
    )
    assert last_words(server) == f"could not write lock file (its data: /home/ada/.mesh/postgres/data); see {log}"


async def test_a_process_that_was_stopped_is_gone_and_one_that_died_is_not(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    stopped, killed = supervisor.start([program(tmp_path, "stopped"), program(tmp_path, "killed")])
    await supervisor.healthy([stopped, killed])
    assert killed.pid
    os.kill(killed.pid, signal.SIGKILL)
    await until(lambda: killed.restarts == 1)
    await stopped.stop()
    assert (stopped.gone, killed.gone) == (True, False)
