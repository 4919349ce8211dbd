"""How fast a destination is sent entries, and how soon one entry is sent again."""

import time

from mesh.runtime.backoff import Backoff, jittered

DESTINATION_SECONDS = (0.25, 10.0)
"""First and longest pause of everything to a destination that failed as a whole or asked for less."""
ENTRY_SECONDS = (0.5, 60.0)
"""First and longest pause before an entry is tried again."""


def pause(attempts: int) -> float:
    """Seconds until an entry's next attempt.

    Doubling, with jitter, so that a destination that comes back is not met by everything at once.
    """
    return jittered(*ENTRY_SECONDS, attempts)


class Pace:
    """How soon a destination is sent anything at all, shared by its lanes.

    Doubling pauses with jitter, none after it took something.
    """

    def __init__(self) -> None:
        self._backoff = Backoff(*DESTINATION_SECONDS)
        self._until = 0.0

    def slow_down(self) -> None:
        """It failed as a whole, or asked for less."""
        self._until = time.monotonic() + self._backoff.failed()

    def speed_up(self) -> None:
        """It took something."""
        self._backoff.succeeded()

    @property
    def pause(self) -> float:
        """Seconds until it may be sent something."""
        return max(0.0, self._until - time.monotonic())
