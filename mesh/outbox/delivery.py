"""What a destination said to the entries it was sent, and how fast it is to be sent more."""

import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

BACKOFF_SECONDS = (0.25, 10.0)
"""First and longest pause of everything to a destination that failed as a whole or asked for less."""

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


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The fate of one batch. What is in neither `accepted` nor `refused` is sent again as if nothing had been said."""

    accepted: Collection[int] = ()
    """Ids of the entries that are in the destination's hands."""
    refused: Mapping[int, str] = field(default_factory=dict)
    """Ids of entries that the destination does not want, with its word for why: it will say so again."""
    throttled: bool = False
    """Whether it asked for less."""


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


def join(answers: Sequence[BatchResult]) -> BatchResult:
    """Several answers as one."""
    return BatchResult(
        accepted=[number for answer in answers for number in answer.accepted],
        refused={number: why for answer in answers for number, why in answer.refused.items()},
        throttled=any(answer.throttled for answer in answers),
    )


class Pace:
    """How soon a destination is sent anything at all, shared by its lanes: doubling pauses with jitter, none after it
    took something.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0

    def slow_down(self) -> None:
        """It failed as a whole, or asked for less."""
        first, longest = BACKOFF_SECONDS
        self._until = time.monotonic() + min(longest, first * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)
        self._failures += 1

    def speed_up(self) -> None:
        """It took something."""
        self._failures = 0

    @property
    def pause(self) -> float:
        """Seconds until it may be sent something."""
        return max(0.0, self._until - time.monotonic())
