"""Watching the trail.

Each open stream reads the projection at its own pace, woken when this process projected something.

A stream holds no queue, only a place. So a slow reader costs no memory and loses nothing, and one that comes back with
a token takes the same path.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

from mesh.errors import field_invalid
from mesh.resources import page_token
from services.audit.reading.projection import Projection, Stored
from services.audit.reading.projector import Projector

POLL_SECONDS = 0.5
"""How soon events are seen that another replica projected."""
BATCH = 100

_LIST = "audit-events"


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to a watcher."""

    stored: Stored | None
    """None: nothing happened, and the token is newer."""
    resume_token: str


class Watch:
    """Tells administrators what is recorded."""

    def __init__(self, projection: Projection, follower: Projector, heartbeat: timedelta) -> None:
        """Initializes the instance.

        Args:
            projection: Where the events are.
            follower: Who fills it.
            heartbeat: How long a stream stays silent.
        """
        self._projection = projection
        self._follower = follower
        self._heartbeat = heartbeat.total_seconds()

    async def follow(self, event_type: str, resume_token: str, *, off_chain: bool = False) -> AsyncIterator[Notice]:
        """Events in the order in which they were recorded, at least once each.

        They begin behind the message that carried the token, or now. The first message comes at once. Ends with an
        error only. `off_chain`: also what is known not to be part of its chain.

        Raises:
            InvalidArgument: FIELD_INVALID `resume_token`.
            Unavailable: the database is out of reach.
        """
        signal = asyncio.Event()
        self._follower.signals.add(signal)
        try:
            position = _position(resume_token) if resume_token else await self._projection.head()
            loop = asyncio.get_running_loop()
            silent_since = loop.time() - self._heartbeat
            while True:
                signal.clear()
                # Before the events: whatever is above it then comes next time.
                head = await self._projection.head()
                found = await self._projection.after(position, event_type, BATCH, off_chain=off_chain)
                for stored in found:
                    position = stored.position
                    yield Notice(stored, page_token.encode(_LIST, str(position)))
                    silent_since = loop.time()
                if len(found) == BATCH:
                    continue
                position = max(position, head)
                if loop.time() - silent_since >= self._heartbeat:
                    yield Notice(None, page_token.encode(_LIST, str(position)))
                    silent_since = loop.time()
                try:
                    async with asyncio.timeout(min(POLL_SECONDS, self._heartbeat)):
                        await signal.wait()
                except TimeoutError:
                    pass
        finally:
            self._follower.signals.discard(signal)


def _position(token: str) -> int:
    key = page_token.decode(_LIST, token, field="resume_token")
    if not (key.isascii() and key.isdigit() and len(key) <= 18):
        raise field_invalid("resume_token", "is not a token of this list")
    return int(key)
