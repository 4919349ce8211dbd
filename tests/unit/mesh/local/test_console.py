"""What is shown while the mesh runs."""

import io

import pytest
from rich.console import Console

from mesh.local.console import LiveConsole, PlainConsole, table
from mesh.operator.status import Health, Row, State, Status


def status(health: Health, restarts: int = 0) -> Status:
    row = Row(
        name="auth",
        pid=None if health is Health.UNHEALTHY else 7,
        address="unix:/tmp/auth",
        health=health,
        restarts=restarts,
    )
    return Status(state=State.STARTING, processes=(row,))


def test_elsewhere_than_on_a_terminal_each_change_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console = PlainConsole()
    for shown in (
        status(Health.STARTING),
        status(Health.HEALTHY),
        status(Health.HEALTHY),
        status(Health.UNHEALTHY),
        status(Health.HEALTHY, 1),
    ):
        console.show(shown)
    assert capsys.readouterr().out.splitlines() == [
        "auth: healthy (pid 7, unix:/tmp/auth)",
        "auth: unhealthy (pid -, unix:/tmp/auth)",
        "auth: healthy (pid 7, unix:/tmp/auth, restarts: 1)",
    ]


def test_what_a_process_waits_for_is_told_once_it_has_been_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    console = PlainConsole()

    def of(health: Health, *lacks: str, state: State = State.READY) -> Status:
        row = Row(name="auth", pid=7, address="unix:/tmp/auth", health=health, lacks=lacks, restarts=0)
        return Status(state=state, processes=(row,))

    for shown in (
        of(Health.STARTING, "database", "keys"),
        of(Health.STARTING, "keys"),
        of(Health.HEALTHY),
        of(Health.UNHEALTHY, "database"),
        of(Health.UNHEALTHY, state=State.STOPPING),
    ):
        console.show(shown)
    assert capsys.readouterr().out.splitlines() == [
        "auth: healthy (pid 7, unix:/tmp/auth)",
        "auth: unhealthy, waits for database (pid 7, unix:/tmp/auth)",
    ]


def test_the_table_has_a_row_for_each_process() -> None:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(table(status(Health.HEALTHY, 2).processes))
    assert console.export_text().split() == [
        "name",
        "pid",
        "address",
        "health",
        "restarts",
        "auth",
        "7",
        "unix:/tmp/auth",
        "healthy",
        "2",
    ]


def test_nothing_is_left_of_the_table_when_the_mesh_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(width=120, force_terminal=True, file=io.StringIO())
    monkeypatch.setattr("rich.live.get_console", lambda: screen)
    console = LiveConsole()
    console.show(status(Health.HEALTHY))
    console.close()
    console.line("stopped")
    assert isinstance(screen.file, io.StringIO)
    drawn = screen.file.getvalue()
    assert "healthy" in drawn
    # The cursor goes up and erases what was drawn, and only then comes the last line.
    erased = drawn.rindex("\x1b[2K")
    assert drawn.rindex("healthy") < erased < drawn.rindex("stopped")
