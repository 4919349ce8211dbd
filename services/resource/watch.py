"""Watching: each open stream reads its person's part of the log at its own pace, woken by one task that follows the head for the whole process.

A stream holds no queue, only a flag that there is something to read. So a slow consumer costs no memory and loses
nothing, a stream that starts from an old token takes the same path as a live one, and any number of replicas may run.
How many streams a person may have is the contract's business.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from mesh.errors import InvalidArgument, Unavailable, field_invalid
from services.resource.change_log import ChangeLog
from services.resource.resource import Resource
from services.resource.resume_tokens import ResumeTokens
from services.resource.share import Change

POLL_SECONDS = 0.25
"""How soon changes are found that another replica committed."""
OUTAGE_SECONDS = 1.0
BATCH = 16
"""Changes read at once: with 64 KiB of content each, a stream holds at most 1 MiB."""
BYTES_PER_SECOND = 4 * 1024 * 1024
"""What all streams of one person are sent of content, after as much again at once: one with many large resources can
begin anew from an old token again and again.
"""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to somebody who watches."""

    change: Change | None
    """None: nothing happened, and the token is newer."""
    resource_id: UUID | None
    resource: Resource | None
    """The resource as it is now; None when it was removed."""
    resume_token: str
    """Continues behind this message, for the same person only."""


class _Reader:
    """One person's open streams."""

    def __init__(self) -> None:
        self.signals: set[asyncio.Event] = set()
        """Of each stream: there may be something to read."""
        self._loop = asyncio.get_running_loop()
        self._paid_until = self._loop.time()

    @property
    def debt(self) -> float:
        """Seconds until everything that was sent is paid for, at `BYTES_PER_SECOND`."""
        return max(0.0, self._paid_until - self._loop.time())

    async def pay(self, size: int) -> None:
        """Waits while more than a second's worth was sent that is not paid for."""
        self._paid_until = max(self._loop.time(), self._paid_until) + size / BYTES_PER_SECOND
        if self.debt > 1:
            await asyncio.sleep(self.debt - 1)


class Watch:
    """Tells people what happens to the resources that they can see."""

    def __init__(self, log: ChangeLog, tokens: ResumeTokens, heartbeat: timedelta) -> None:
        """Args:
        log: Where the changes are.
        tokens: Seals places in it.
        heartbeat: How long a stream stays silent.
        """
        self._log = log
        self._tokens = tokens
        self._heartbeat = heartbeat.total_seconds()
        self._readers: dict[UUID, _Reader] = {}

    async def run(self) -> None:
        """Numbers what was committed, one batch after the other, and wakes the streams of those who have something to
        read. A task of the server.
        """
        position: int | None = None
        loop = asyncio.get_running_loop()
        while True:
            self._log.grown.clear()
            started = loop.time()
            try:
                numbered = await self._log.number()
                if numbered.head != position:
                    await self._wake(position, numbered.head)
                position = numbered.head
            except Unavailable:
                await _is_set(self._log.grown, OUTAGE_SECONDS)
                continue
            if numbered.more:
                # A backlog gets half of the time, and the calls have the database to themselves for the other half.
                await asyncio.sleep(loop.time() - started)
            else:
                await _is_set(self._log.grown, POLL_SECONDS)

    async def _wake(self, position: int | None, head: int) -> None:
        # A head that went back is a database that was restored: each stream finds out by itself.
        known = position is not None and head > position
        users = await self._log.users_between(position or 0, head, self._readers.keys()) if known else list(self._readers)
        for user in users:
            if reader := self._readers.get(user):
                for signal in reader.signals:
                    signal.set()

    async def follow(self, user: UUID, resume_token: str) -> AsyncIterator[Notice]:
        """What happens to the resources that `user` can see, in order, from behind the message that carried `resume_token`, or from now when it is
        empty. The first message comes at once; a heartbeat, if nothing else is there to say. Ends with an error only.

        Raises:
            InvalidArgument: FIELD_INVALID `resume_token`: not one of this person's, or older than what is remembered.
            Unavailable: the database is out of reach.
        """
        tokens = await self._tokens.of(user)
        position = tokens.open(resume_token) if resume_token else await self._log.head()
        with self._stream(user) as (reader, signal):
            quiet = True
            while True:
                signal.clear()
                extract = await self._log.read(user, position, BATCH)
                _check(position, extract.purged, extract.head)
                sent = 0
                for entry in extract.entries:
                    position = entry.sequence
                    if entry.change is Change.REMOVED or entry.resource is not None:
                        yield Notice(entry.change, entry.resource_id, entry.resource, tokens.seal(position))
                        quiet = False
                        sent += len(entry.resource.draft.content.encode()) if entry.resource else 0
                await reader.pay(sent)
                if len(extract.entries) == BATCH:
                    continue
                position = extract.head
                if quiet:
                    yield Notice(None, None, None, tokens.seal(position))
                quiet = not await _is_set(signal, self._heartbeat)

    @contextmanager
    def _stream(self, user: UUID) -> Iterator[tuple[_Reader, asyncio.Event]]:
        reader, signal = self._readers.setdefault(user, _Reader()), asyncio.Event()
        reader.signals.add(signal)
        try:
            yield reader, signal
        finally:
            reader.signals.discard(signal)
            self._forget(user)

    def _forget(self, user: UUID) -> None:
        reader = self._readers.get(user)
        if reader is None or reader.signals:
            return
        if reader.debt:
            # Whoever opens the next stream still owes it.
            asyncio.get_running_loop().call_later(reader.debt, self._forget, user)
        else:
            del self._readers[user]


def _check(position: int, purged: int, head: int) -> None:
    if position < purged:
        raise _list_again("is too old: what happened since is not remembered any more")
    if position > head:
        raise _list_again("is of another history of this service")


def _list_again(why: str) -> InvalidArgument:
    return field_invalid("resume_token", f"{why}. Watch without a token, and list the resources again")


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    """Waits until `event` is set, or for so many seconds. Returns whether it was."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
