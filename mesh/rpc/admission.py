"""The stage that bounds a call: how many at once, how large, and for how long.

It also ends open streams when the server drains.
"""

from datetime import timedelta
from typing import Any

from mesh.contract import Rpc
from mesh.errors import DeadlineExceeded, Reason, ResourceExhausted, Unavailable
from mesh.rpc.call import Call, Handler
from mesh.rpc.endable import Endable
from mesh.runtime.shares import Shares

UNARY_SECONDS = 30.0
"""The longest that a unary call may take, whatever deadline its caller set."""

MESSAGE_LIMIT = 4 * 1024 * 1024
"""Bytes of one message. The edge admits far less; what is larger comes from inside."""

ADDRESS_PART = 0.25
"""What one client address may have of the public calls in flight, as a multiple of what is free: alone a fifth."""
NODE_PART = 1.0
"""What one node of the mesh may have of the internal ones: alone a half."""
KINDS = ("public", "internal", "authenticated")
"""Of calls, by their access rules."""


class Admission:
    """Admits calls until `limit` are in flight; sheds the rest at once, so that those inside stay fast.

    Each kind of call, by its access rule, has an eighth of the places for itself: a flood of one kind leaves room for
    the others. Within their kind no client address and no node of the mesh gets everything (`mesh.runtime.shares`); who
    is behind a token is not known yet, and is `Limits`' business.

    Streams have places of their own: they stay open for hours, and must not take those of calls that take milliseconds.
    `Limits` shares them out; here they are counted to bound those that come without a good token.
    """

    def __init__(self, limit: int) -> None:
        """Initializes the instance.

        Args:
            limit: Unary calls in flight, and streams open, at once.
        """
        self._limit = limit
        self._kept = _kept(limit)
        self._calls = Shares(limit)
        self._of_kind = dict.fromkeys(KINDS, 0)
        self._streams: set[Endable] = set()
        self._draining = False

    def drain(self) -> None:
        """Ends the open streams with UNAVAILABLE: their clients resume elsewhere. Unary calls go on to their end."""
        self._draining = True
        for stream in self._streams:
            stream.end(_going_away())

    def __call__(self, rpc: Rpc, proceed: Handler) -> Handler:
        """The stage.

        Raises:
            ResourceExhausted: OVERLOADED, too many in flight; MESSAGE_TOO_LARGE.
            DeadlineExceeded: DEADLINE, the time was up.
            Unavailable: DEPENDENCY_UNAVAILABLE, the server is going away.
        """
        return self._stream(proceed) if rpc.server_streaming else self._unary(rpc, proceed)

    def _unary(self, rpc: Rpc, proceed: Handler) -> Handler:
        kind, calls, of_kind = rpc.kind, self._calls, self._of_kind
        others = [other for other in KINDS if other != kind]
        # Who is behind a token is not known yet.
        is_known = kind != "authenticated"
        part = ADDRESS_PART if kind == "public" else NODE_PART

        async def admit(call: Call) -> Any:
            _measure(call)
            caller = call.principal if is_known else ""
            kept = 0
            for other in others:
                if (reserve := self._kept - of_kind[other]) > 0:
                    kept += reserve
            if not calls.take(caller, part, kept):
                raise _overloaded()
            of_kind[kind] += 1
            try:
                with Endable() as block:
                    remaining = call.context.time_remaining()
                    block.end_after(UNARY_SECONDS if remaining is None else min(remaining, UNARY_SECONDS), _time_is_up)
                    return await proceed(call)
            finally:
                of_kind[kind] -= 1
                calls.leave(caller)

        return admit

    def _stream(self, proceed: Handler) -> Handler:
        async def admit(call: Call) -> Any:
            _measure(call)
            if self._draining:
                raise _going_away()
            # A newcomer may get the place of another stream behind authentication: so some more come that far.
            if len(self._streams) >= self._limit + max(1, self._kept):
                raise _overloaded()
            with Endable() as stream:
                self._streams.add(stream)
                try:
                    if (remaining := call.context.time_remaining()) is not None:
                        stream.end_after(remaining, _time_is_up)
                    return await proceed(call)
                finally:
                    self._streams.discard(stream)

        return admit


def most_of_one_kind(limit: int) -> int:
    """How many calls of one kind can be in flight of `limit`, when the others have what is kept for them."""
    return limit - (len(KINDS) - 1) * _kept(limit)


def _measure(call: Call) -> None:
    if call.payload is not None and len(call.payload) > MESSAGE_LIMIT:
        raise ResourceExhausted(Reason.MESSAGE_TOO_LARGE, f"a message holds at most {MESSAGE_LIMIT} bytes")


def _kept(limit: int) -> int:
    return limit // 8


def _overloaded() -> ResourceExhausted:
    return ResourceExhausted(
        Reason.OVERLOADED, "too many calls at once: wait and try again", retry_after=timedelta(seconds=1)
    )


def _time_is_up() -> DeadlineExceeded:
    return DeadlineExceeded(Reason.DEADLINE, "the time of this call was up; whether it took effect is unknown")


def _going_away() -> Unavailable:
    return Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "this server is going away: resume the stream")
