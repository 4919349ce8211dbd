"""The Merkle tree over an object's lines, as RFC 9162 (section 2.1) builds it.

A root stands for every line and for their order.
"""

import hashlib
from collections.abc import Sequence

_LEAF, _NODE = b"\x00", b"\x01"


def leaf(line: bytes) -> bytes:
    """The hash of one line, without its line feed."""
    return hashlib.sha256(_LEAF + line).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes, in their order. Of none it is the hash of nothing."""
    if not leaves:
        return hashlib.sha256().digest()
    level = list(leaves)
    while len(level) > 1:
        # An odd last one goes up as it is: that is the split at the largest power of two, from below.
        level = [_join(level[i : i + 2]) for i in range(0, len(level), 2)]
    return level[0]


def _join(pair: Sequence[bytes]) -> bytes:
    return hashlib.sha256(_NODE + pair[0] + pair[1]).digest() if len(pair) == 2 else pair[0]
