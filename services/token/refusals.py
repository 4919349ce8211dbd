"""Counts refusals of credentials that are dead or were never issued: refresh tokens, and assertions of clients.

Anybody may send one as often as they like, so none is an audit event.
"""

import asyncio
from collections import Counter

import structlog

REPORT_SECONDS = 60.0
"""How often the counts are logged."""
_log = structlog.get_logger("authmesh.refusals")


class Refusals:
    """The counts of one process."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, cause: str) -> None:
        """Counts one. There must be a bounded number of causes."""
        self._counts[cause] += 1

    def take(self) -> dict[str, int]:
        """The counts since this was asked last, by cause."""
        taken, self._counts = dict(self._counts), Counter()
        return taken

    async def run(self) -> None:
        """Logs the counts once a minute, where there are any. A task of the server."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            if counts := self.take():
                _log.info("dead credentials refused", counts=counts)
