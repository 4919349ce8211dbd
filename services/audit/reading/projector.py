"""Follows the trail into the projection.

At once what this process stored, and by listing the bucket what others did (a replica, the Lambda form).
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from datetime import date, timedelta

import structlog

from mesh.errors import Unavailable
from mesh.runtime.part import Part
from services.audit.reading.projection import Projection
from services.audit.trail import merkle
from services.audit.trail.archive import Archive, read_all
from services.audit.trail.event_codec import LineError, Link, read_line, unpack
from services.audit.trail.objects import PREFIX, SUFFIX, AuditObject

REMEMBERED = 1_000
"""Objects that wait for a database that is unavailable. Those beyond it are found in the bucket later."""
RETRY_SECONDS = 1.0
LISTED_AT_ONCE = 1_000
SLACK = timedelta(days=1)
"""How far before the last event without a gap the bucket is listed: clocks of replicas, and events that were written
around midnight."""

_KEY = re.compile(rf"{PREFIX}source=([a-z][a-z0-9-]*)/dt=(\d{{4}}-\d\d-\d\d)/[^/]+")

_log = structlog.get_logger("authmesh.audit")


class Projector(Part):
    """Reads objects into the projection."""

    name = "projector"

    def __init__(self, projection: Projection) -> None:
        self._projection = projection
        self._stored: deque[AuditObject] = deque(maxlen=REMEMBERED)
        self._grown = asyncio.Event()
        self.signals: set[asyncio.Event] = set()
        """Set whenever the projection grew: for those who watch it."""

    def stored(self, item: AuditObject) -> None:
        """Says that an object is in the bucket now. Never waits, never fails."""
        self._stored.append(item)
        self._grown.set()

    async def run(self) -> None:
        """Projects what `stored` was told."""
        while True:
            self._grown.clear()
            try:
                while self._stored:
                    await self.project(self._stored[0].key, self._stored[0].body)
                    self._stored.popleft()
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            await self._grown.wait()

    async def catch_up(self, archive: Archive, progress: Callable[[int], None] | None = None) -> int:
        """Reads every object that is in the bucket and not in the projection yet, of the days that may have any.

        Returns how many.

        Args:
            archive: The bucket.
            progress: Told of every object that was read.

        Raises:
            ClientError, BotoCoreError, OSError: S3 is unavailable.
            Unavailable: the database is.
        """
        days, count = await self._projection.days(), 0
        for folder in await archive.folders(PREFIX):
            source, day = (
                folder.removeprefix("source=").rstrip("/"),
                days.get(folder.removeprefix("source=").rstrip("/")),
            )
            prefix = f"{PREFIX}{folder}"
            # Sorts before everything of that day, and behind what is before it.
            after = f"{prefix}dt={day - SLACK}" if day and day > date.min else ""
            batch: list[str] = []
            async for key in archive.keys(prefix, after):
                if key.endswith(SUFFIX):
                    batch.append(key)
                if len(batch) == LISTED_AT_ONCE:
                    count += await self._read(archive, source, batch, progress)
                    batch = []
            count += await self._read(archive, source, batch, progress)
        return count

    async def _read(
        self, archive: Archive, source: str, keys: list[str], progress: Callable[[int], None] | None
    ) -> int:
        unread = await self._projection.unread(keys) if keys else []
        async for key, body in read_all(archive, unread):
            if body is not None:
                await self.project(key, body)
            if progress:
                progress(1)
        return len(unread)

    async def project(self, key: str, body: bytes) -> None:
        """Takes one object into the projection.

        Raises:
            Unavailable: the database is unavailable.
        """
        matched = _KEY.fullmatch(key)
        try:
            source, day = (matched[1], date.fromisoformat(matched[2])) if matched else ("", None)
        except ValueError:
            day = None
        if day is None:
            _log.error("not an object of the trail", key=key)
            return
        links: list[Link] = []
        whole = True
        try:
            lines = unpack(body)
        except LineError as error:
            _log.error("an object cannot be read", key=key, cause=str(error))
            return
        for number, line in enumerate(lines, 1):
            try:
                link = read_line(line)
                if link.source != source:
                    raise LineError("the event is of another source")
                links.append(link)
            except LineError as error:
                # It stays unread, and so no checkpoint vouches for it, until a release comes that can read it.
                whole = False
                _log.error("a line cannot be read", key=key, line=number, cause=str(error))
        await self._projection.add(
            key, source, day, merkle.root([merkle.leaf(line) for line in lines]), links, whole=whole
        )
        for signal in self.signals:
            signal.set()
