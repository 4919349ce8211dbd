"""What a process of the local mesh is, and which one it is: a pid is reused, a pid with its start time is not."""

import os
import signal
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


def age() -> float:
    """Seconds since this process was started, its imports included."""
    if sys.platform != "linux":
        return time.monotonic() - _IMPORTED
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
