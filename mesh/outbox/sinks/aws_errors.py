"""What the error codes of EventBridge and SNS say about the entries of a call."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from mesh.outbox.sink import BatchResult, join

Item = TypeVar("Item")

_TRANSIENT = ("Throttl", "Internal", "Unavailable", "TooMany", "LimitExceeded", "Timeout", "SlowDown")
_MALFORMED = (
    "Validation",
    "InvalidParameter",
    "InvalidArgument",
    "TooLong",
    "TooLarge",
    "Malformed",
    "BatchRequest",
    "EmptyBatch",
    "SizeLimit",
)


def is_throttling(code: str) -> bool:
    """Whether an AWS error code asks for less traffic."""
    return any(word in code for word in ("Throttl", "TooManyRequests", "LimitExceeded", "SlowDown"))


def is_passing(code: str) -> bool:
    """Whether an AWS error code says nothing about the entry: the same entry may be accepted later."""
    return any(word in code for word in _TRANSIENT)


def is_malformed(code: str) -> bool:
    """Whether the code, that of a whole call, may be the fault of one entry in it."""
    return any(word in code for word in _MALFORMED)


async def send_apart(entries: Sequence[Item], send: Callable[[Sequence[Item]], Awaitable[BatchResult]]) -> BatchResult:
    """Sends entries one by one, after a call was refused for what one of them is."""
    return join([await send([entry]) for entry in entries])
