"""Watching: each open stream reads its person's part of the log at its own pace.

One task follows the head of the log for the whole process and wakes the streams.

A stream holds no queue, only a flag that there is something to read. So a slow consumer costs no memory and loses
nothing, a stream that starts from an old token takes the same path as a live one, and any number of replicas may run.
How many streams a person may have is the contract's business.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from mesh.errors import InvalidArgument, Unavailable, field_invalid
from mesh.runtime.part import Part
from services.resource.change_log import ChangeLog
from services.resource.resource import Resource
from services.resource.resume_tokens import ResumeTokens
from services.resource.share import Change

POLL_SECONDS = 0.25
"""How soon changes are found that another replica committed."""
OUTAGE_SECONDS = 1.0
BATCH = 16
"""Changes read at once: with 64 KiB of content each, a stream holds at most 1 MiB."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to someone who watches."""

    change: Change | None
    """None: nothing happened, and the token is newer."""
    resource_id: UUID | None
    resource: Resource | None
    """The resource as it is now; None when it was removed."""
    resume_token: str
    """Continues behind this message, for the same person only."""


class Watch(Part):
    """Tells people what happens to the resources that they can see."""

    name = "watch"

    def __init__(self, log: ChangeLog, tokens: ResumeTokens, heartbeat: timedelta) -> None:
        """Initializes the instance.

        Args:
            log: Where the changes are.
            tokens: Seals places in it.
            heartbeat: How long a stream stays silent.
        """
        self._log = log
        self._tokens = tokens
        self._heartbeat = heartbeat.total_seconds()
        self._signals: dict[UUID, set[asyncio.Event]] = defaultdict(set)

    async def run(self) -> None:
        """Numbers what was committed, batch by batch, and wakes the streams that have something to read."""
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
        users = (
            await self._log.users_between(position or 0, head, self._signals.keys()) if known else list(self._signals)
        )
        for user in users:
            for signal in self._signals.get(user, ()):
                signal.set()

    async def follow(self, user: UUID, resume_token: str) -> AsyncIterator[Notice]:
        """What happens to the resources that `user` can see, in order.

        It begins behind the message that carried `resume_token`, or now when that is empty. The first message comes at
        once; a heartbeat, if nothing else is there to say. Ends with an error only.

        Raises:
            InvalidArgument: FIELD_INVALID `resume_token`: not one of this person's, or older than what is remembered.
            Unavailable: the database is out of reach.
        """
        tokens = await self._tokens.of(user)
        position = tokens.open(resume_token) if resume_token else await self._log.head()
        with self._signal(user) as signal:
            quiet = True
            while True:
                signal.clear()
                extract = await self._log.read(user, position, BATCH)
                _check(position, extract.purged, extract.head)
                for entry in extract.entries:
                    position = entry.sequence
                    if entry.change is Change.REMOVED or entry.resource is not None:
                        yield Notice(entry.change, entry.resource_id, entry.resource, tokens.seal(position))
                        quiet = False
                if len(extract.entries) == BATCH:
                    continue
                position = extract.head
                if quiet:
                    yield Notice(None, None, None, tokens.seal(position))
                quiet = not await _is_set(signal, self._heartbeat)

    @contextmanager
    def _signal(self, user: UUID) -> Iterator[asyncio.Event]:
        signal = asyncio.Event()
        self._signals[user].add(signal)
        try:
            yield signal
        finally:
            self._signals[user].discard(signal)
            if not self._signals[user]:
                del self._signals[user]


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
