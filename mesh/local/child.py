"""One supervised process: started, asked for its health, started again when it dies."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from mesh.local.journal import Journal
from mesh.local.process import Program
from mesh.operator.errors import explain
from mesh.operator.status import Health

FIRST_DELAY = 0.1
LONGEST_DELAY = 10.0
"""Seconds between restarts: doubled from the first to the longest."""
STEADY = 30.0
"""Seconds of life after which the next death is the first again."""
EARLY_DEATHS = 3
"""A program that ended so often without ever having been healthy will not get so by itself."""
PROBE_STARTING = 0.05
PROBE_HEALTHY = 2.0
PROBE_UNHEALTHY = 0.25
EXCEPTION = re.compile(r"[\w.]+(Error|Exception|Exit)(: |$)")
ASSERTION = re.compile(r"assert failure: (.+)$")
"""Envoy's: with what to do about it, such as raising a limit of the kernel."""
FATAL = re.compile(r"(?:FATAL|PANIC): +(.*)")
DETAIL = re.compile(r"DETAIL: +(.*)")
DESCRIPTOR = re.compile(r"/proc/self/fd/\d+")
MISSED_PROBES = 2
"""Probes that a healthy process may miss: one is a busy machine."""


class Child:
    """Keeps one program running until it is told to stop."""

    def __init__(self, program: Program, journal: Journal, changed: Callable[[], None]) -> None:
        self.program = program
        self.pid: int | None = None
        self.health = Health.STARTING
        self.lacks: tuple[str, ...] = ()
        """The subsystems that it waits for."""
        self.restarts = 0
        self.gone = False
        """Whether it has ended because it was told to."""
        self.settled = asyncio.Event()
        """Set when it was healthy once, or when it is clear that it won't be."""
        self.failure: str | None = None
        """Why it never became healthy: one line."""
        self._journal = journal
        self._changed = changed
        self._stopping = asyncio.Event()
        self._was_healthy = False
        self._early_deaths = 0
        self._restarting = False
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to keep it running."""
        self._task = asyncio.create_task(self._keep_running(), name=f"child {self.program.name}")

    async def stop(self) -> None:
        """Asks it to end, insists after its grace, and returns when it is gone."""
        if self._task is None:
            return
        self._stopping.set()
        await self._ask_to_end()
        done, _ = await asyncio.wait([self._task], timeout=self.program.grace)
        if not done:
            self._signal(signal.SIGKILL)
        await self._task

    async def restart(self) -> None:
        """Ends it in order and starts it again at once; returns when it is healthy.

        Not counted in `restarts`: nothing went wrong.
        """
        self._restarting = True
        self.settled.clear()
        pid = self.pid
        await self._ask_to_end()
        loop = asyncio.get_running_loop()
        insist = loop.call_later(self.program.grace, lambda: self._signal(signal.SIGKILL) if self.pid == pid else None)
        await self.settled.wait()
        insist.cancel()

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        deaths = 0
        while not self._stopping.is_set():
            began = loop.time()
            code = await self._run_once()
            self.health = Health.STARTING if self._restarting else Health.UNHEALTHY
            self.gone = self._stopping.is_set()
            self._changed()
            if self._stopping.is_set():
                break
            if self._restarting:
                self._restarting = False
                continue
            if not self._was_healthy:
                self._early_deaths += 1
                if self._early_deaths >= EARLY_DEATHS:
                    self._give_up(f"{self.program.name} does not start ({_ending(code)}): {last_words(self.program)}")
            deaths = 1 if loop.time() - began > STEADY else deaths + 1
            try:
                async with asyncio.timeout(min(FIRST_DELAY * 2 ** (deaths - 1), LONGEST_DELAY)):
                    await self._stopping.wait()
            except TimeoutError:
                self.restarts += 1
        self.settled.set()

    def _give_up(self, why: str) -> None:
        self.failure = why
        self.settled.set()

    async def _run_once(self) -> int:
        program = self.program
        try:
            if program.before_start:
                program.before_start()
            descriptor = os.open(program.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            self._give_up(str(explain(error, f"start {program.name}")))
            return -1
        try:
            process = await asyncio.create_subprocess_exec(
                *program.command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(program.environment),
                cwd=program.directory,
                pass_fds=program.keep_open,
                # Ctrl-C in the terminal is ours to handle: children are stopped in order.
                start_new_session=True,
            )
        except OSError as error:
            self._give_up(str(explain(error, f"start {program.name}")))
            return -1
        finally:
            os.close(descriptor)
        self.pid = process.pid
        self._journal.add(process.pid, program.stop_signal)
        self.health = Health.STARTING
        self._changed()
        if self._stopping.is_set():
            self._signal(program.stop_signal)
        self._watch = asyncio.create_task(self._watch_health(), name=f"health of {program.name}")
        try:
            return await process.wait()
        finally:
            self._watch.cancel()
            # What it forked and left behind is still in the session that was made for it.
            _kill_group(process.pid)
            self._journal.remove(process.pid)
            self.pid = None
            self.lacks = ()

    async def _watch_health(self) -> None:
        missed = 0
        while True:
            healthy = await self.program.healthy()
            if self.lacks != (lacks := self.program.lacks()):
                self.lacks = lacks
                self._changed()
            if healthy:
                missed = 0
                self._was_healthy = True
                if self.health is not Health.HEALTHY:
                    self.health = Health.HEALTHY
                    self._changed()
                    self.settled.set()
            else:
                missed += 1
                if self.health is Health.HEALTHY and missed >= MISSED_PROBES:
                    self.health = Health.UNHEALTHY
                    self._changed()
            match self.health:
                case Health.HEALTHY if missed == 0:
                    pause = PROBE_HEALTHY
                case Health.STARTING:
                    pause = PROBE_STARTING
                case _:
                    pause = PROBE_UNHEALTHY
            await asyncio.sleep(pause)

    async def _ask_to_end(self) -> None:
        # A server that is asked whether it is well while it ends says that it isn't.
        if self._watch is not None:
            self._watch.cancel()
        if self.program.before_stop is not None:
            await self.program.before_stop()
        self._signal(self.program.stop_signal)

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is None:
            return
        if number is signal.SIGKILL:
            _kill_group(self.pid)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"


def last_words(program: Program) -> str:
    """What its log says last, where its data is, and where to read more: the end of an error message."""
    line = last_line(program.log)
    if program.data:
        line = DESCRIPTOR.sub(str(program.data), line)
        line += "" if str(program.data) in line else f" (its data: {program.data})"
    return f"{line}; see {program.log}"


def last_line(log: Path, at_most: int = 300) -> str:
    """The last thing that a log says, shortened to one line."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = [
                line.strip(" |")
                for line in file.read().decode(errors="replace").splitlines()
                if any(map(str.isalpha, line))
            ]
    except OSError as error:
        return f"{log} can't be read ({error.strerror})"
    if not lines:
        return "it said nothing"
    # PostgreSQL says why in one line, what should be instead in the next, and that it ends in the last.
    for number in reversed(range(len(lines))):
        if fatal := FATAL.search(lines[number]):
            detail = DETAIL.search(lines[number + 1]) if number + 1 < len(lines) else None
            return ": ".join(found[1] for found in (fatal, detail) if found)[:at_most]
    # Envoy says why first, and then where it was in itself.
    if asserted := [found[1] for line in lines if (found := ASSERTION.search(line))]:
        return asserted[-1][:at_most]
    # Of a Python traceback the line with the error tells most, and SQLAlchemy writes more below it.
    errors = [line for line in lines if EXCEPTION.match(line) and "Event loop is closed" not in line]
    return (errors or lines)[-1][:at_most]
