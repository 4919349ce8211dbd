"""Counts refusals of credentials that are dead or were never issued: refresh tokens, and assertions of clients.

Anyone may send one as often as they like, so none is an audit event.
"""

from collections import Counter

import structlog

from mesh.runtime.periodic import Periodic


class Refusals(Periodic):
    """The counts of one process."""

    name = "refusals"
    seconds = 60.0
    log = structlog.get_logger("authmesh.refusals")

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, cause: str) -> None:
        """Counts one. There must be a bounded number of causes."""
        self._counts[cause] += 1

    def take(self) -> dict[str, int]:
        """The counts since this was asked last, by cause."""
        taken, self._counts = dict(self._counts), Counter()
        return taken

    async def step(self) -> None:
        """Logs the counts, where there are any."""
        if counts := self.take():
            self.log.info("dead credentials refused", counts=counts)
