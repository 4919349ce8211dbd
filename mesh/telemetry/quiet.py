"""Libraries that repeat themselves."""

import logging
import time

SECONDS = 60.0


class OncePerMinute(logging.Filter):
    """Lets a logger say something once a minute. How often it would have is in the next line."""

    def __init__(self) -> None:
        super().__init__()
        self._last = float("-inf")
        self._held = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        now = time.monotonic()
        if now - self._last < SECONDS:
            self._held += 1
            return False
        if self._held:
            record.msg, record.args = f"{record.getMessage()} (and {self._held} like it)", ()
        self._last, self._held = now, 0
        return True
