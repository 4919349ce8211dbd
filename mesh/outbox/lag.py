"""How long what is in an outbox has waited: the one figure that says whether a service still gets rid of its events.

Logged as a metric (`mesh.telemetry.embedded_metric`), whose alarm is in deploy/aws/observability.yaml.
"""

import asyncio
from dataclasses import dataclass

import structlog

from mesh.runtime.periodic import every
from mesh.storage.database import Database
from mesh.telemetry.embedded_metric import embedded
from mesh.telemetry.metrics import OUTBOX_OLDEST_SECONDS, OUTBOX_PARKED

EVERY_SECONDS = 30.0
OLDEST, PARKED = "OutboxOldestSeconds", "OutboxParked"

OLDEST_BY_KIND = """
WITH RECURSIVE oldest AS (
    (SELECT kind, create_time FROM outbox ORDER BY kind, id LIMIT 1)
    UNION ALL
    SELECT next.kind, next.create_time FROM oldest, LATERAL (
        SELECT kind, create_time FROM outbox WHERE outbox.kind > oldest.kind ORDER BY kind, id LIMIT 1
    ) AS next
)
SELECT kind, extract(epoch FROM now() - create_time)::float8 AS seconds FROM oldest
"""
"""The first row of each kind, by one descent into the index each, however much waits. The first is the oldest: ids are
given in the order of time, but for the length of a transaction."""

_log = structlog.get_logger("authmesh.outbox")
_reported: dict[str, None] = {}
"""Kinds that have a metric."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in an outbox."""

    oldest_seconds: dict[str, float]
    """Age of the oldest entry, by kind; a kind of which nothing waits is not in it."""
    parked: int
    """Entries that were put aside and wait for someone to look at them."""


async def measure(database: Database) -> Backlog:
    """Reads the backlog.

    Raises:
        Unavailable: the database is out of reach.
    """
    rows = await database.fetch(OLDEST_BY_KIND)
    parked = await database.fetchval("SELECT count(*) FROM outbox_parked")
    return Backlog({row["kind"]: max(0.0, row["seconds"]) for row in rows}, parked)


def report(source: str, backlog: Backlog) -> None:
    """Writes the log line that is the metric of CloudWatch, and sets Prometheus's."""
    oldest = max(backlog.oldest_seconds.values(), default=0.0)
    # A kind of which nothing waits any more is at 0, and not at what it was.
    for kind in _reported.keys() - backlog.oldest_seconds.keys():
        OUTBOX_OLDEST_SECONDS.labels(kind).set(0)
    for kind, seconds in backlog.oldest_seconds.items():
        OUTBOX_OLDEST_SECONDS.labels(kind).set(seconds)
    _reported.update(dict.fromkeys(backlog.oldest_seconds))
    OUTBOX_PARKED.set(backlog.parked)
    _log.info(
        "outbox backlog",
        by_kind={kind: round(seconds, 1) for kind, seconds in backlog.oldest_seconds.items()},
        **embedded({OLDEST: (round(oldest, 1), "Seconds"), PARKED: (backlog.parked, "Count")}, {"Service": source}),
    )


async def watch(database: Database, source: str) -> None:
    """Reports until it is cancelled. Nothing is sent while the database is unavailable: readiness says why."""

    async def measured() -> None:
        report(source, await measure(database))

    await asyncio.sleep(EVERY_SECONDS)
    await every(EVERY_SECONDS, measured)
