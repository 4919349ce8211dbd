"""UUIDv7 (RFC 9562, section 5.7): ids that sort by the time they were made, so that indexes grow at one end."""

import os
import threading
import time
import uuid

_lock = threading.Lock()
_last = 0


def uuid7() -> uuid.UUID:
    """A new id, greater than every earlier one of this process.

    48 bits of Unix milliseconds, 12 bits of their fraction or of a count (section 6.2, method 3), 62 random bits.
    """
    global _last
    milliseconds, fraction = divmod(time.time_ns(), 1_000_000)
    with _lock:
        _last = moment = max(milliseconds << 12 | (fraction << 12) // 1_000_000, _last + 1)
    return uuid.UUID(
        int=(moment >> 12) << 80 | 0x7 << 76 | (moment & 0xFFF) << 64 | 0b10 << 62 | int.from_bytes(os.urandom(8)) >> 2
    )
