"""What tests of the outbox share: a destination that remembers, and a relay for the length of a block."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from authmesh.audit.v1.audit_event_pb2 import AuditEvent

from mesh.outbox.relay import Relay
from mesh.outbox.sink import BatchResult, DeadLetter, Entry, Sink
from mesh.outbox.sinks.commands import CommandSink
from mesh.outbox.sinks.events import EventBridgeSink
from mesh.outbox.sinks.messages import MessageSink
from mesh.outbox.work import Work
from mesh.storage.database import Database


def kinds() -> dict[str, Sink]:
    """The real sinks, connected to nothing."""
    nowhere: Any = None
    return {sink.kind: sink for sink in (EventBridgeSink(nowhere, ""), MessageSink(nowhere, ""), CommandSink(nowhere))}


class Collector(Sink):
    """A destination that takes everything, but what `refuses` says, and remembers it. Its kind is treated as the real
    sink of that kind has it."""

    def __init__(
        self,
        kind: str = "audit",
        *,
        batch: int = 10,
        refuses: Callable[[Entry], bool] = lambda _: False,
        fails: bool = False,
    ) -> None:
        self._real = kinds()[kind]
        self.kind, self.batch, self.ready = kind, batch, self._real.ready
        self.refuses, self.fails = refuses, fails
        self.taken: list[Entry] = []
        self.seen: list[Entry] = []
        self.times: dict[int, float] = {}

    async def prepare(self, work: Work) -> None:
        await self._real.prepare(work)

    def on_dead_letter(self, entry: Entry, reason: str) -> DeadLetter | None:
        return self._real.on_dead_letter(entry, reason)

    def connect(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def send(self, client: Any, entries: Sequence[Entry]) -> BatchResult:
        self.seen += entries
        if self.fails:
            raise ConnectionError
        taken = [entry for entry in entries if not self.refuses(entry)]
        self.times |= {entry.id: time.monotonic() for entry in taken}
        self.taken += taken
        return BatchResult(accepted=[entry.id for entry in taken])

    @property
    def events(self) -> list[AuditEvent]:
        return [AuditEvent.FromString(entry.payload) for entry in self.taken]


@asynccontextmanager
async def relaying(work: Work, *sinks: Sink) -> AsyncIterator[None]:
    task = asyncio.create_task(Relay(work, sinks).run())
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not (await value if isinstance(value := condition(), Awaitable) else value):
            await asyncio.sleep(0.005)


async def count(database: Database, condition: str = "true") -> int:
    return int(await database.fetchval(f"SELECT count(*) FROM outbox WHERE {condition}"))


async def is_empty(database: Database) -> bool:
    return not await count(database)
