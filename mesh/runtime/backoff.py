"""Pauses between attempts at something that fails."""

import random


def jittered(shortest: float, longest: float, failures: int) -> float:
    """Seconds to wait after so many failures: `Backoff` for those who count themselves."""
    return min(longest, shortest * 2.0 ** min(failures, 30)) * random.uniform(0.5, 1.0)


class Backoff:
    """Each pause is up to twice as long as the one before, and a random part of its length.

    Those that failed together don't come back together (AWS Architecture Blog, "Exponential Backoff And Jitter", equal
    jitter).
    """

    def __init__(self, shortest: float, longest: float) -> None:
        """Initializes the instance.

        Args:
            shortest: Seconds of the first pause, at the most.
            longest: Seconds of any pause, at the most.
        """
        self._shortest = shortest
        self._longest = longest
        self.failures = 0
        """Since the last success."""

    def failed(self) -> float:
        """Counts a failure. Returns how many seconds to wait."""
        self.failures += 1
        return jittered(self._shortest, self._longest, self.failures - 1)

    def succeeded(self) -> None:
        """The next pause is a short one again."""
        self.failures = 0
