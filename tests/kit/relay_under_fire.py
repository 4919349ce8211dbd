"""A process that kills its children: each child writes events, relays everything, and dies by SIGKILL at one more line
of the relay's code.

`python -m tests.kit.relay_under_fire DSN DELIVERED COMMITTED FIRST STEP`: dies at lines FIRST, FIRST + STEP, …; the
files get a line for each delivered entry and for each commit that returned.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
from authmesh.audit.v1.audit_event_pb2 import AuditEvent

import mesh.outbox.dead_letters
import mesh.outbox.pacing
import mesh.outbox.relay
from mesh.outbox.relay import Relay
from mesh.outbox.sink import BatchResult, Entry
from mesh.outbox.sinks.events import EventBridgeSink
from mesh.outbox.work import Work
from mesh.storage.database import Database

LINES = 1_000
"""More than a child executes. A child that lives is the last."""
WATCHED = tuple(
    f"/mesh/{name}.py"
    for name in (
        "outbox/relay",
        "outbox/dead_letters",
        "outbox/sinks/events",
        "outbox/sinks/numbering",
        "audit/subject_keys",
        "audit/personal",
        "audit/tombstone",
    )
)


def append(file: Path, line: str) -> None:
    with file.open("a") as stream:
        stream.write(line + "\n")


class FileSink(EventBridgeSink):
    """A bus that remembers everything across deaths, and refuses poison for what it is."""

    def __init__(self, file: Path) -> None:
        super().__init__(nullcontext, "bus")
        self._file = file

    async def send(self, client: Any, entries: Sequence[Entry]) -> BatchResult:
        poison = {entry.id: "Malformed" for entry in entries if b"poison" in entry.payload}
        for entry in entries:
            if entry.id not in poison:
                append(self._file, entry.payload.hex())
        return BatchResult([entry.id for entry in entries if entry.id not in poison], poison)


async def relay_all(work: Work, delivered: Path) -> None:
    database = work.database
    # The leases of the dead are over.
    await database.execute("UPDATE outbox SET next_attempt_time = now()")
    task = asyncio.create_task(Relay(work, [FileSink(delivered)]).run())
    while await database.fetchval("SELECT count(*) FROM outbox"):
        await asyncio.sleep(0.002)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def live(url: str, line: int, delivered: Path, committed: Path) -> None:
    """The life of a child: it finishes what the one before left behind, writes something new, and dies on the way.

    Every fifth dies at the finishing already, if there is enough of it.
    """
    async with Database.open(url, size=3) as database:
        work = Work(database, "auth")
        if line % 5 == 0:
            die_at(line)
        await relay_all(work, delivered)
        die_at(line)
        async with work.begin() as tx:
            for number in range(2):
                event = AuditEvent(
                    type="auth.signed_in",
                    subject=f"users/{line}",
                    address="192.0.2.1",
                    detail={"amr": f"{line}.{number}"},
                )
                tx.record(event)
            tx.record(AuditEvent(type="auth.signed_in", detail={"amr": "poison"}))
        append(committed, str(line))
        await relay_all(work, delivered)


def die_at(line: int) -> None:
    """Arms the child: SIGKILL when the relay's code has executed that many lines."""
    left = line

    def local(frame: FrameType, what: str, _: object) -> Any:
        nonlocal left
        if what == "line":
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return local

    def call(frame: FrameType, what: str, _: object) -> Any:
        return local if frame.f_code.co_filename.endswith(WATCHED) else None

    sys.settrace(call)


def main() -> None:
    url, delivered, committed, first, step = (
        sys.argv[1],
        Path(sys.argv[2]),
        Path(sys.argv[3]),
        int(sys.argv[4]),
        int(sys.argv[5]),
    )
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    mesh.outbox.relay.POLL_SECONDS = 0.003
    mesh.outbox.pacing.ENTRY_SECONDS = (0.001, 0.001)
    mesh.outbox.dead_letters.PARK_AFTER = 1
    for line in range(first, LINES, step):
        child = os.fork()
        if not child:
            asyncio.run(live(url, line, delivered, committed))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            print(line, os.waitstatus_to_exitcode(status))
            return
    sys.exit("no child lived")


if __name__ == "__main__":
    main()
