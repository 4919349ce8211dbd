"""Sends what is in the outbox. An RPC never waits for it.

Delivery is at least once: a row is claimed by a lease, sent, and deleted when it was accepted. A process that dies in
between leaves a lease that runs out.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog

from mesh.errors import Unavailable
from mesh.outbox import dead_letters, lag, pacing
from mesh.outbox.sink import BatchResult, Entry, Sink
from mesh.outbox.work import Work
from mesh.runtime.part import Part

POLL_SECONDS = 0.25
"""How soon a row is found whose process died before it could wake its relay."""
LEASE_SECONDS = 30
"""How long a claimed row is left to its claimer: longer than any send may take."""

# Kind and batch are in the text: only then does the planner see that a partial index holds all the rows that there are,
# and that few of them are wanted.
_CLAIM = """
WITH due AS MATERIALIZED (
    SELECT id FROM outbox WHERE kind = '{kind}' AND {which} AND {ready}
    ORDER BY {order} LIMIT {batch} FOR UPDATE SKIP LOCKED
)
UPDATE outbox SET attempts = attempts + 1, next_attempt_time = now() + make_interval(secs => $1)
FROM due WHERE outbox.id = due.id
RETURNING outbox.id, destination, payload, attempts
"""
_NEAR_THE_FIRST = """
attempts = 0 AND id < 1000 + (SELECT min(id) FROM outbox WHERE kind = '{kind}' AND attempts = 0 AND {ready})
"""


def claim_first(sink: Sink) -> str:
    """Takes rows that were never sent, for $1 seconds.

    Whatever the planner believes of a backlog that grew since the last ANALYZE, it sorts a thousand rows at most, and
    not all of them for every batch.
    """
    return _claim(sink, _NEAR_THE_FIRST.format(kind=sink.kind, ready=sink.ready), "id")


def claim_again(sink: Sink) -> str:
    """Takes rows whose pause or lease is over, the longest waiting first, for $1 seconds."""
    return _claim(sink, "attempts > 0 AND next_attempt_time <= now()", "next_attempt_time, id")


def _claim(sink: Sink, which: str, order: str) -> str:
    return _CLAIM.format(kind=sink.kind, ready=sink.ready, batch=sink.batch, which=which, order=order)


_log = structlog.get_logger("authmesh.outbox")


class Relay(Part):
    """Sends what is in the outbox.

    Each kind has two lanes, a task each: a dead destination holds up nothing but its own, and entries that were refused
    before hold up none that are new.
    """

    name = "relay"

    def __init__(self, work: Work, sinks: Sequence[Sink]) -> None:
        """Initializes the instance.

        Args:
            work: Of the service.
            sinks: One for each kind that it writes.
        """
        self._work = work
        self._database = work.database
        self._sinks = sinks

    async def run(self) -> None:
        """Relays until it is cancelled, at any moment: nothing is lost."""
        async with asyncio.TaskGroup() as group:
            group.create_task(lag.watch(self._database, self._work.outbox.source))
            for sink in self._sinks:
                group.create_task(self._serve(sink))

    async def _serve(self, sink: Sink) -> None:
        pace = pacing.Pace()
        async with sink.connect() as client, asyncio.TaskGroup() as lanes:
            lanes.create_task(self._first(sink, client, pace))
            lanes.create_task(self._again(sink, client, pace))

    async def _first(self, sink: Sink, client: Any, pace: pacing.Pace) -> None:
        """The lane of entries that were never sent."""
        claim, wakeup = claim_first(sink), self._work.outbox.wakeup()
        while True:
            await asyncio.sleep(pace.pause)
            wakeup.clear()
            try:
                await sink.prepare(self._work)
                sent = await self._pass(sink, client, claim, pace)
            except Unavailable:
                sent = 0
            if not sent:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await wakeup.wait()

    async def _again(self, sink: Sink, client: Any, pace: pacing.Pace) -> None:
        """The lane of entries that were sent before. Nothing wakes it: each has a pause behind it."""
        claim = claim_again(sink)
        while True:
            await asyncio.sleep(pace.pause)
            try:
                sent = await self._pass(sink, client, claim, pace)
            except Unavailable:
                sent = 0
            if not sent:
                await asyncio.sleep(POLL_SECONDS)

    async def _pass(self, sink: Sink, client: Any, claim: str, pace: pacing.Pace) -> int:
        """Sends one batch. Returns how many entries left."""
        entries = await self._claim(claim)
        if not entries:
            return 0
        try:
            async with asyncio.timeout(LEASE_SECONDS / 2):
                result = await sink.send(client, entries)
        except Exception as error:  # noqa: BLE001 - whatever a destination does, the entries stay and are sent again
            _log.warning("not delivered", kind=sink.kind, entries=len(entries), error=type(error).__name__)
            result = BatchResult(throttled=True)
        if result.throttled:
            pace.slow_down()
        elif result.accepted:
            pace.speed_up()
        await self._settle(sink, entries, result)
        return len(result.accepted)

    async def _claim(self, claim: str) -> list[Entry]:
        rows = await self._database.fetch(claim, float(LEASE_SECONDS))
        return sorted(
            (Entry(row["id"], row["destination"], row["payload"], row["attempts"] - 1) for row in rows),
            key=lambda entry: entry.id,
        )

    async def _settle(self, sink: Sink, entries: Sequence[Entry], result: BatchResult) -> None:
        accepted = set(result.accepted)
        waiting = [entry for entry in entries if entry.id not in accepted]
        if accepted:
            await self._database.execute("DELETE FROM outbox WHERE id = ANY($1::bigint[])", list(accepted))
        if waiting:
            await self._database.execute(
                """
                UPDATE outbox SET next_attempt_time = now() + make_interval(secs => later.pause)
                FROM unnest($1::bigint[], $2::double precision[]) AS later (id, pause) WHERE outbox.id = later.id
                """,
                [entry.id for entry in waiting],
                [pacing.pause(entry.attempts) for entry in waiting],
            )
        if result.refused:
            await dead_letters.count_refusals(self._database, sink, result.refused)
