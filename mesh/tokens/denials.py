"""Writes down that authenticated callers were refused, and no more of it than one of them may have written."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from authmesh.audit.v1 import audit_event_pb2

from mesh.errors import MeshError, Unavailable
from mesh.model.event_types import LEFT_OUT
from mesh.outbox.work import Work
from mesh.rpc.call import Call
from mesh.runtime.part import Part

EACH = 10
"""Refusals of one caller within a window that are an event each."""
WINDOW_SECONDS = 60.0
CALLERS = 10_000
"""Callers with a refusal in a window, about 1 KB each. More end the window."""

_LAST_SECONDS = 0.4
"""How long what was counted may take to be written when the process stops."""
_BATCH = 500


@dataclass(slots=True)
class _Refused:
    """What a caller was refused in a window."""

    written: int = 0
    left_out: dict[tuple[str, str], tuple[audit_event_pb2.AuditEvent, int]] = field(default_factory=dict)
    """Type and reason -> the latest of those that are not an event of their own, and how many they are."""


class Denials(Part):
    """The refusals of one service.

    The first ones of a caller in a minute are an event each. Of each type and reason the others are one event at the
    end of the minute, the latest of them, whose `left_out` says how many it stands for. So a caller that is refused in
    a loop costs a few rows a minute, and every refusal is counted.
    """

    name = "denials"

    def __init__(self, work: Work) -> None:
        """Initializes the instance.

        Args:
            work: Of the service.
        """
        self._work = work
        self._callers: dict[str, _Refused] = {}
        self._full = asyncio.Event()

    async def denied(self, call: Call, denial: MeshError) -> None:
        """Records that an access rule refused the caller of `call`.

        Raises:
            Unavailable: DEPENDENCY_UNAVAILABLE, an event of its own could not be written.
        """
        await self.record(
            audit_event_pb2.AuditEvent(type="access.denied", reason=denial.reason, detail={"method": call.rpc.path})
        )

    async def record(self, event: audit_event_pb2.AuditEvent) -> None:
        """Records a refusal. Not in the transaction of what was refused: nothing was done, and it may be open for long.

        Args:
            event: With its type, its reason, and whom it is about where that is not the caller of the current call.

        Raises:
            Unavailable: DEPENDENCY_UNAVAILABLE, an event of its own could not be written.
        """
        refusal = self._work.outbox.event(event)
        refusal.outcome = audit_event_pb2.OUTCOME_FAILURE
        caller = refusal.actor or refusal.subject or refusal.client
        refused = self._callers.setdefault(caller, _Refused())
        if len(self._callers) >= CALLERS:
            self._full.set()
        # Counted before anything is awaited: a hundred at once are a hundred.
        if refused.written < EACH:
            refused.written += 1
            await self._write([refusal])
        else:
            _, count = refused.left_out.get((refusal.type, refusal.reason), (None, 0))
            refused.left_out[refusal.type, refusal.reason] = refusal, count + 1

    async def run(self) -> None:
        """Writes at the end of each window what was counted in it."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(WINDOW_SECONDS):
                        await self._full.wait()
                with suppress(Unavailable):
                    await self.flush()
        except asyncio.CancelledError:
            with suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(_LAST_SECONDS):
                    await self.flush()
            raise

    async def flush(self) -> None:
        """Ends the window.

        Raises:
            Unavailable: DEPENDENCY_UNAVAILABLE. What could not be written is kept for the next window.
        """
        ended, self._callers = self._callers, {}
        self._full.clear()
        counted = [(caller, item) for caller, refused in ended.items() for item in refused.left_out.items()]
        for start in range(0, len(counted), _BATCH):
            try:
                await self._write([_standing_for(*found) for _, (_, found) in counted[start : start + _BATCH]])
            except BaseException:
                for caller, (kind, (latest, count)) in counted[start:]:
                    left_out = self._callers.setdefault(caller, _Refused()).left_out
                    newer, more = left_out.get(kind, (latest, 0))
                    left_out[kind] = newer, count + more
                raise

    async def _write(self, events: list[audit_event_pb2.AuditEvent]) -> None:
        async with self._work.begin() as tx:
            for event in events:
                tx.record(event)


def _standing_for(latest: audit_event_pb2.AuditEvent, count: int) -> audit_event_pb2.AuditEvent:
    event = audit_event_pb2.AuditEvent()
    event.CopyFrom(latest)
    event.detail[LEFT_OUT] = str(count)
    return event
