"""What a process of the local mesh is, and which one it is: a pid is reused, a pid with its start time is not."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_IMPORTED = time.monotonic()
TETHER = Path(__file__).with_name("tether.py")


@dataclass(frozen=True, slots=True)
class Account:
    """An operating system account to run as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Program:
    """What to start, and how to tell that it works."""

    name: str
    """Unique in the mesh: the name in `authmesh status` and of the log file."""
    argv: tuple[str, ...]
    log: Path
    healthy: Callable[[], Awaitable[bool]]
    """Asks the process itself. Must answer False rather than raise while it can't be reached."""
    lacks: Callable[[], tuple[str, ...]] = tuple
    """What it was waiting for when it was asked last, if it told."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """All of its environment: nothing is inherited."""
    address: str = ""
    """Where it listens, for people."""
    directory: Path | None = None
    data: Path | None = None
    """Where it keeps its state, for people. It may know the directory by an open descriptor only."""
    account: Account | None = None
    """Another account than ours; only root may."""
    keep_open: tuple[int, ...] = ()
    """File descriptors that it inherits."""
    before_start: Callable[[], None] | None = None
    """Runs before each start: removes what a killed predecessor left."""
    before_stop: Callable[[], Awaitable[None]] | None = None
    """Runs before it is asked to end: closes what is kept open to it."""
    stop_signal: signal.Signals = signal.SIGTERM
    """Asks for an orderly end; also what it gets when we are killed, where the platform can (Linux)."""
    grace: float = 10
    """Seconds from the stop signal to SIGKILL."""

    def command(self) -> list[str]:
        """The command line to execute: through `tether`, so that the process does not outlive us."""
        account = f"{self.account.uid}:{self.account.gid}" if self.account else "-"
        return [
            sys.executable,
            "-I",
            "-S",
            str(TETHER),
            str(os.getpid()),
            str(int(self.stop_signal)),
            account,
            *self.argv,
        ]


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, ever."""

    pid: int
    started: str
    """Start time as the system tells it, with the boot it belongs to."""

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """The process that has this pid now; None if there is none, or only a zombie."""
        started = _start_time(pid)
        return cls(pid, started) if started else None

    def alive(self) -> bool:
        """Whether that very process still runs."""
        return Identity.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Signals the process if it is still the same one."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _start_time(pid: int) -> str | None:
    if sys.platform != "linux":
        listed = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout.strip()
        return listed if listed and not listed.startswith("Z") else None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # Fields after the command name, which may hold spaces and brackets: state is field 3, starttime field 22
    # (proc_pid_stat(5)).
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{fields[19]}"


def age() -> float:
    """Seconds since this process was started, its imports included."""
    if sys.platform != "linux":
        return time.monotonic() - _IMPORTED
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
