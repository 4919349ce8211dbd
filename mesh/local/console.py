"""What the person who started the mesh sees: a live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mesh.operator import terminal
from mesh.operator.status import Health, State

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from mesh.operator.status import Row, Status

COLOURS = {Health.HEALTHY: "green", Health.STARTING: "yellow", Health.UNHEALTHY: "red"}


class PlainConsole:
    """Lines on standard output."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[Health, tuple[str, ...], int]] = {}

    def line(self, text: str) -> None:
        """Says something."""
        terminal.lines(text)

    def show(self, status: Status) -> None:
        """Says what changed since the last time.

        That a mesh which is being stopped is not healthy goes without saying.
        """
        if status.state is State.STOPPING:
            return
        for row in status.processes:
            now = row.health, row.lacks, row.restarts
            before = self._shown.get(row.name)
            self._shown[row.name] = now
            if now == before or (row.health is Health.STARTING and (before is None or before[0] is Health.STARTING)):
                continue
            again = f", restarts: {row.restarts}" if row.restarts else ""
            self.line(f"{row.name}: {_health(row)} (pid {row.pid or '-'}, {row.address}{again})")

    def close(self) -> None:
        """Nothing is kept open."""


class LiveConsole(PlainConsole):
    """A table that stays at the foot of the terminal."""

    def __init__(self) -> None:
        super().__init__()
        from rich.live import Live

        # Gone with the mesh: a last table would tell of processes that are no more.
        self._live: Live = Live(auto_refresh=False, transient=True)
        self._live.start()

    def line(self, text: str) -> None:
        """Says something above the table."""
        self._live.console.print(terminal.escaped_lines(text), markup=False, highlight=False, soft_wrap=True)

    def show(self, status: Status) -> None:
        """Draws the table anew."""
        self._live.update(table(status.processes), refresh=True)

    def close(self) -> None:
        """Leaves the terminal as it was, without the table. Lines can still be said."""
        self._live.stop()


def table(rows: tuple[Row, ...]) -> Table:
    """The processes as a table."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False)
    for name in ("name", "pid", "address", "health", "restarts"):
        drawn.add_column(name, justify="right" if name in {"pid", "restarts"} else "left", no_wrap=name == "name")
    for row in rows:
        health = Text(_health(row), style=COLOURS[row.health])
        drawn.add_row(row.name, str(row.pid or "-"), row.address, health, str(row.restarts))
    return drawn


def _health(row: Row) -> str:
    return row.health + (f", waits for {', '.join(row.lacks)}" if row.lacks else "")


def open_console() -> PlainConsole:
    """The console that fits standard output."""
    return LiveConsole() if sys.stdout.isatty() else PlainConsole()
