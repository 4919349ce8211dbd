"""The list of started processes on disk.

The next start ends what a killed one left behind, and nothing else.
"""

import contextlib
import json
import signal
import time
from pathlib import Path

from mesh.operator.identity import Identity
from mesh.operator.state_dir import place


class Journal:
    """One JSON line per process that was started and not yet seen to end."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._running: dict[int, tuple[Identity, signal.Signals]] = {}

    def add(self, pid: int, stop_signal: signal.Signals) -> None:
        """Notes a process that we started."""
        identity = Identity.of(pid)
        if identity is not None:
            self._running[pid] = identity, stop_signal
            self._write()

    def remove(self, pid: int) -> None:
        """Forgets a process that has ended."""
        if self._running.pop(pid, None):
            self._write()

    def end_leftovers(self, grace: float = 10) -> list[int]:
        """Ends the processes that an earlier run noted and that still run.

        First as they like to be asked, after `grace` seconds by SIGKILL.

        Returns their pids. Left alone are a process that merely got the pid of one of ours, and those of the mesh that
        this directory was copied from.
        """
        left = [entry for entry in self._read() if entry[0].alive()]
        for identity, stop_signal in left:
            identity.send(stop_signal)
        deadline = time.monotonic() + grace
        remaining = [identity for identity, _ in left]
        while remaining and time.monotonic() < deadline:
            time.sleep(0.02)
            remaining = [identity for identity in remaining if identity.alive()]
        for identity in remaining:
            identity.send(signal.SIGKILL)
        while any(identity.alive() for identity in remaining):
            time.sleep(0.02)
        self._file.unlink(missing_ok=True)
        return [identity.pid for identity, _ in left]

    def _read(self) -> list[tuple[Identity, signal.Signals]]:
        try:
            lines = self._file.read_text().splitlines()
        except FileNotFoundError:
            return []
        entries = []
        for line in lines:
            try:
                entry = json.loads(line)
                if entry["place"] != place(self._file.parent):
                    continue
                entries.append(
                    (Identity(int(entry["pid"]), str(entry["started"])), signal.Signals(entry["stop_signal"]))
                )
            except (ValueError, KeyError, TypeError):
                # A line that a full disk cut short: PR_SET_PDEATHSIG has most likely ended that process already.
                continue
        return entries

    def _write(self) -> None:
        here = place(self._file.parent)
        lines = [
            json.dumps({"pid": one.pid, "started": one.started, "stop_signal": int(number), "place": here})
            for one, number in self._running.values()
        ]
        new = self._file.with_name(self._file.name + ".new")
        # A full disk must not end the task that keeps the process: no one would start it again, or stop it.
        with contextlib.suppress(OSError):
            new.write_text("".join(line + "\n" for line in lines))
            new.replace(self._file)
