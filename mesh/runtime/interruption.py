"""Background work that fails again and again says so once, and once that it works again."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 15.0
"""How long work may fail without a word: what is over by then, a start or a failover, is not an alarm."""


class Interruption:
    """Told of every attempt of some background work.

    Logs a warning when it has failed for a while, and nothing more until it works again.
    """

    def __init__(self, log: Any, event: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Initializes the instance.

        Args:
            log: A structlog logger.
            event: The line, `keys not read`.
            clock: Monotonic seconds.
        """
        self._log = log
        self._event = event
        self._clock = clock
        self._since: float | None = None
        self._said = False

    def failed(self, **facts: object) -> None:
        """The work failed just now.

        Args:
            facts: What the line says, if there is one: the error's kind, never its arguments.
        """
        now = self._clock()
        self._since = now if self._since is None else self._since
        if not self._said and now - self._since >= PATIENCE_SECONDS:
            self._said = True
            self._log.warning(self._event, **facts)

    def ended(self) -> None:
        """The work was done just now."""
        if self._said and self._since is not None:
            self._log.info(f"{self._event}: over", seconds=round(self._clock() - self._since, 1))
        self._since, self._said = None, False
