"""How fast a destination is sent entries, and how soon one entry is sent again."""

import random
import time

DESTINATION_SECONDS = (0.25, 10.0)
"""First and longest pause of everything to a destination that failed as a whole or asked for less."""
ENTRY_SECONDS = (0.5, 60.0)
"""First and longest pause before an entry is tried again."""


def pause(attempts: int) -> float:
    """Seconds until an entry's next attempt: doubling, with jitter, so that a destination that comes back is not met by
    everything at once.
    """
    return _backoff(ENTRY_SECONDS, attempts)


class Pace:
    """How soon a destination is sent anything at all, shared by its lanes: doubling pauses with jitter, none after it
    took something.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0

    def slow_down(self) -> None:
        """It failed as a whole, or asked for less."""
        self._until = time.monotonic() + _backoff(DESTINATION_SECONDS, self._failures)
        self._failures += 1

    def speed_up(self) -> None:
        """It took something."""
        self._failures = 0

    @property
    def pause(self) -> float:
        """Seconds until it may be sent something."""
        return max(0.0, self._until - time.monotonic())


def _backoff(seconds: tuple[float, float], failures: int) -> float:
    first, longest = seconds
    return min(longest, first * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)
