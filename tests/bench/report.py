"""Tables, the machine they were measured on, and the files in `bench/`."""

import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "bench"


@dataclass(frozen=True)
class Samples:
    """What the rounds found."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        return f"{shown(self.median)} ({shown(min(self.values))} to {shown(max(self.values))})"


def shown(value: float) -> str:
    """Three significant digits, and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Table:
    """One file of `bench/`."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    notes: Sequence[str] = ()

    def write(self, folder: Path, seconds: float) -> str:
        """Writes the file. Returns its text."""
        lines = [
            f"# {self.title}",
            "",
            f"{machine()}. Rounds of {shown(seconds)} s, in turn. Median (least to greatest).",
            "",
        ]
        lines += [
            _row(self.columns),
            _row(["---"] * len(self.columns)),
            *(_row([str(cell) for cell in row]) for row in self.rows),
        ]
        lines += ["", *(f"- {note}" for note in self.notes)]
        text = "\n".join(lines).rstrip() + "\n"
        folder.mkdir(exist_ok=True)
        (folder / f"{self.name}.md").write_text(text)
        return text


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def machine() -> str:
    """The machine in a line, with its load, which says whether it had anything else to do."""
    model = "unknown CPU"
    information = Path("/proc/cpuinfo")
    if information.exists():
        model = next(
            (
                line.partition(":")[2].strip()
                for line in information.read_text().splitlines()
                if line.startswith("model name")
            ),
            model,
        )
    load = os.getloadavg()[0]
    return (
        f"{time.strftime('%Y-%m-%d')}, {model}, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}, load {load:.1f} before"
    )


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which that part of them lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]
