"""What a process can tell of its token checks.

A structured log line a minute, for whatever collects logs; the same figures as attributes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenMetrics:
    """Since the last line, but for what is said of now."""

    cache_hits: int
    """Tokens that were remembered."""
    cache_misses: int
    cached_tokens: int
    """Now."""
    streams: int
    """Open ones, now."""
    revocations: Mapping[str, int]
    """Entries by kind, now."""
    sequence: int
    """The newest revocation known."""
    staleness: float
    """Seconds, now: the lag of the feed. Infinite before the first snapshot."""
    deliveries: Sequence[float]
    """Seconds from the publication of each revocation until this process refused by it. Both ends' wall clocks."""

    def line(self) -> Mapping[str, object]:
        """The fields of the log line."""
        ordered = sorted(self.deliveries)
        return {
            "cache_hits": self.cache_hits,
            "cache_misses": self.cache_misses,
            "cached_tokens": self.cached_tokens,
            "streams": self.streams,
            **{f"revoked_{kind}s": size for kind, size in self.revocations.items()},
            "sequence": self.sequence,
            # JSON knows no infinity.
            "staleness_seconds": round(self.staleness, 3) if self.staleness != float("inf") else None,
            "delivered": len(ordered),
            "delivery_p50_ms": _milliseconds(ordered, 0.5),
            "delivery_p99_ms": _milliseconds(ordered, 0.99),
        }


def _milliseconds(ordered: Sequence[float], part: float) -> float | None:
    return round(1e3 * ordered[min(int(len(ordered) * part), len(ordered) - 1)], 2) if ordered else None
