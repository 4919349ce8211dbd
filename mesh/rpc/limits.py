"""Bounds on what one caller takes: calls of a method in a time, calls in flight, open streams.

What a method's limit is, stands in the contract (`authmesh.options.v1.Limit`). The stage knows who calls, so it comes
behind authentication; it comes before the access rule is held against the token, since a refusal costs too: it is
written down.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Self

from mesh.contract import Rate, Rpc
from mesh.errors import Reason, ResourceExhausted
from mesh.rpc.admission import most_of_one_kind
from mesh.rpc.call import Call, Handler
from mesh.rpc.endable import Endable
from mesh.runtime.shares import Shares
from mesh.settings import ProcessSettings

PERSON_PART = 0.25
"""What a person may have of the calls in flight, as a multiple of what is free: alone a fifth of all
(`mesh.runtime.shares`).
"""
CLIENT_PART = 1.0
"""What a client may have that acts for itself: it serves many people."""
CALLERS_REMEMBERED = 10_000
"""Callers of one method whose buckets are not full: some 200 bytes each."""
NEWCOMERS = 100
"""As many callers' rate is shared by those who come when `CALLERS_REMEMBERED` are remembered."""
LATER = timedelta(seconds=10)
"""When it is worth asking again for a stream."""

STREAM_BYTES = Rate(2 * 1024 * 1024, 1.0)
"""What all streams of one caller are sent. What is more waits: someone with much to read could begin anew from an old
token again and again.
"""
LEAST_MESSAGE = 4 * 1024
"""What a message counts at least, in bytes: a small one costs, too."""

_ROUNDING = 1e-9
_NEWCOMERS = ""


class Buckets:
    """The token buckets of one method: one for each caller, kept as the time at which it will be full (GCRA).

    A bucket that is full says nothing, and is dropped. One that isn't stays, whatever comes: no one can have their own
    dropped by calling under many names. When there are too many, further callers share one.
    """

    def __init__(self, rate: Rate, remembered: int = CALLERS_REMEMBERED) -> None:
        """Initializes the instance.

        Args:
            rate: How many tokens, and how long an empty bucket takes to be full.
            remembered: How many callers to keep a bucket for.
        """
        self._seconds = rate.seconds
        self._token = rate.seconds / rate.requests
        self._remembered = remembered
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, caller: str, now: float, tokens: float = 1, *, owing: bool = False) -> float:
        """Takes tokens.

        Returns 0, or the seconds until they are there: then nothing was taken, unless the caller may owe them.
        """
        buckets, span = self._full_at, tokens * self._token
        full_at = buckets.get(caller)
        if full_at is None:
            # Two go for one that comes, so what is full doesn't pile up. First are those who have not called for
            # longest.
            for _ in range(2):
                if not buckets or next(iter(buckets.values())) > now:
                    break
                buckets.popitem(last=False)
            if len(buckets) >= self._remembered:
                caller, span = _NEWCOMERS, span / NEWCOMERS
                full_at = buckets.get(caller)
        full_at = max(full_at or now, now) + span
        wait = full_at - self._seconds - now
        if wait > _ROUNDING and not owing:
            return wait
        buckets[caller] = full_at
        buckets.move_to_end(caller)
        return max(0.0, wait)


class OpenStreams:
    """The open streams of all callers.

    When all places are taken, one who has fewer gets one from the one who has the most.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._open = 0
        self._held: dict[str, dict[Endable, Rpc]] = {}
        """The streams of each caller, oldest first."""

    @contextmanager
    def place(self, rpc: Rpc, caller: str) -> Iterator[None]:
        """Holds a place for a stream of `caller`, until the block ends or the place goes to another.

        Raises:
            ResourceExhausted: RATE_LIMITED, the caller has as many streams of this method as they may; OVERLOADED,
                there is no place, or it went to another caller.
        """
        mine = self._held.get(caller, {})
        if sum(other is rpc for other in mine.values()) >= rpc.streams:
            raise ResourceExhausted(
                Reason.RATE_LIMITED, f"you have {rpc.streams} streams of this method open: close one", retry_after=LATER
            )
        if self._open >= self._places:
            self._make_room(len(mine))
        with Endable() as stream:
            self._held.setdefault(caller, {})[stream] = rpc
            self._open += 1
            try:
                yield
            finally:
                self._remove(caller, stream)

    def _make_room(self, have: int) -> None:
        """Ends the oldest stream of the caller who has the most, for one who has `have`."""
        caller, streams = max(self._held.items(), key=lambda item: len(item[1]))
        # With one less they must still have no fewer than the other with one more, or the two would take turns.
        if len(streams) < have + 2:
            raise ResourceExhausted(Reason.OVERLOADED, "too many streams are open: try again later", retry_after=LATER)
        oldest = next(iter(streams))
        self._remove(caller, oldest)
        oldest.end(
            ResourceExhausted(
                Reason.OVERLOADED, "others need the place of this stream: resume it later", retry_after=LATER
            )
        )

    def _remove(self, caller: str, stream: Endable) -> None:
        streams = self._held.get(caller, {})
        if streams.pop(stream, None) is not None:
            self._open -= 1
            if not streams:
                del self._held[caller]


class Limits:
    """The stage. It binds where there is a token; what comes without one is `Admission`'s."""

    def __init__(self, places: int, *, factor: float = 1, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Initializes the instance.

        Args:
            places: Calls in flight, and open streams, that the process admits of everyone.
            factor: Multiplies the rates.
            monotonic: Seconds.
        """
        self._factor = factor
        self._monotonic = monotonic
        self._buckets: dict[str, Buckets] = {}
        self._calls = Shares(most_of_one_kind(places))
        self._streams = OpenStreams(places)
        self._sent = Buckets(STREAM_BYTES.times(factor))

    @classmethod
    def for_process(cls, settings: ProcessSettings) -> Self:
        """The stage of a service's process."""
        return cls(settings.max_concurrent_calls, factor=settings.rate_limit_factor)

    def __call__(self, rpc: Rpc, proceed: Handler) -> Handler:
        """The stage.

        Raises:
            ResourceExhausted: RATE_LIMITED, the caller called too often or has too many streams; OVERLOADED, the caller
                has more calls in flight than is fair, or there is no place for a stream.
        """
        rate, calls = rpc.rate, self._calls
        if rate is None:
            return proceed
        buckets = self._buckets.setdefault(rpc.path, Buckets(rate.times(self._factor)))

        async def limit_stream(call: Call) -> Any:
            caller = call.principal
            self._charge(rpc, rate, buckets, caller)
            call.pay = lambda size: self._pay(caller, size)
            with self._streams.place(rpc, caller):
                return await proceed(call)

        async def limit(call: Call) -> Any:
            caller = call.principal
            self._charge(rpc, rate, buckets, caller)
            # A client's own token has no session (RFC 7523).
            is_person = call.claims is not None and call.claims.session
            if not calls.take(caller, PERSON_PART if is_person else CLIENT_PART):
                raise ResourceExhausted(
                    Reason.OVERLOADED,
                    "you have too many calls under way: wait for one",
                    retry_after=timedelta(seconds=1),
                )
            try:
                return await proceed(call)
            finally:
                calls.leave(caller)

        return limit_stream if rpc.server_streaming else limit

    def _charge(self, rpc: Rpc, rate: Rate, buckets: Buckets, caller: str) -> None:
        if wait := buckets.take(caller, self._monotonic()):
            refusal = f"{rpc.name} may be called {rate}, and you called it more often: wait"
            raise ResourceExhausted(Reason.RATE_LIMITED, refusal, retry_after=timedelta(seconds=wait))

    async def _pay(self, caller: str, size: int) -> None:
        """Waits until `caller` may be sent more than these bytes."""
        if wait := self._sent.take(caller, self._monotonic(), max(size, LEAST_MESSAGE), owing=True):
            await asyncio.sleep(wait)
