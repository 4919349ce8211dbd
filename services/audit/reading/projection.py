"""The projection of the trail in PostgreSQL: events for queries, and how far each source's chain reaches. SQL only."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum, auto
from typing import Any

import structlog
from authmesh.audit.v1.audit_event_pb2 import AuditEvent

from mesh.audit import tombstone
from mesh.audit.tombstone import Parking
from mesh.storage.database import Database, Transaction
from services.audit.proof.checkpoints import Head
from services.audit.trail.event_codec import Link

WALKED_AT_ONCE = 2_000
DELETED_AT_ONCE = 20_000
INDEXED_CHARACTERS = 500
"""An entry of a PostgreSQL index has at most 2,704 bytes."""
RETREAT = 20
"""How many numbers a chain that a forged event led astray goes back."""

_DELETE_SOME = """
WITH deleted AS (DELETE FROM trail_event WHERE position IN (SELECT position FROM trail_event
    ORDER BY position LIMIT $1) RETURNING 1)
SELECT count(*) FROM deleted
"""

_INSERT = """
INSERT INTO trail_event (position, source, sequence, previous_hash, hash, digest, event_time, type, actor, subject,
    event, off_chain)
SELECT $1 + row_number() OVER (ORDER BY sequence), $2, sequence, previous_hash, hash, digest, event_time, type, actor,
    subject, event, off_chain
FROM unnest($3::bigint[], $4::bytea[], $5::bytea[], $6::bytea[], $7::timestamptz[], $8::text[], $9::text[],
    $10::text[], $11::bytea[], $12::boolean[])
  AS new (sequence, previous_hash, hash, digest, event_time, type, actor, subject, event, off_chain)
ON CONFLICT (source, sequence, digest) DO NOTHING
"""
_INSERT_OBJECT = """
INSERT INTO trail_object (key, source, day, events, root, is_read) VALUES ($1, $2, $3, $4, $5, true)
ON CONFLICT (key) DO UPDATE SET is_read = true RETURNING root
"""

_READ = """
SELECT position, event_time, event, off_chain,
  e.sequence <= coalesce((SELECT s.sequence FROM trail_source s WHERE s.source = e.source), 0) AS settled
FROM trail_event e
"""
_STATEMENTS = """
SELECT event FROM trail_event e WHERE type = $1 AND source = ANY($2::text[]) AND NOT off_chain
  AND e.sequence <= coalesce((SELECT s.sequence FROM trail_source s WHERE s.source = e.source), 0)
"""

_log = structlog.get_logger("authmesh.audit")


@dataclass(frozen=True, slots=True)
class Filters:
    """Which events are asked for: every one that is set must match."""

    start: datetime | None = None
    end: datetime | None = None
    """Not included."""
    actor: str = ""
    subject: str = ""
    type: str = ""
    off_chain: bool = False
    """Whether also those that are not part of their chain."""


class Standing(Enum):
    """Of an event in its source's chain: see the contract."""

    CHAINED = auto()
    PENDING = auto()
    OFF_CHAIN = auto()


@dataclass(frozen=True, slots=True)
class Stored:
    """An event of the projection."""

    position: int
    time: datetime
    event: AuditEvent
    standing: Standing


class Projection:
    """Events as S3 holds them. Rows are added in any order and as often as one likes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unread(self, keys: Sequence[str]) -> list[str]:
        """Those of the objects that were not read yet."""
        rows = await self._database.fetch(
            "SELECT key FROM unnest($1::text[]) AS key WHERE NOT EXISTS (SELECT FROM trail_object o "
            "WHERE o.key = key.key AND is_read) ORDER BY key",
            list(keys),
        )
        return [row["key"] for row in rows]

    async def add(self, key: str, source: str, day: date, root: bytes, links: Iterable[Link], *, whole: bool) -> None:
        """Takes in an object. `whole`: every line of it could be read; else it counts as unread.

        Raises:
            Unavailable: the database is out of reach; nothing was added, or all.
        """
        links = list(links)
        async with self._database.transaction() as tx:
            head = await tx.fetchval("SELECT position FROM trail_head FOR UPDATE")
            if whole:
                known = await tx.fetchval(_INSERT_OBJECT, key, source, day, len(links), root)
                if known != root:
                    _log.error("an object was changed", key=key)
            if links:
                await _insert(tx, head, source, links, await _contradicting(tx, source, links))
                await tx.execute("UPDATE trail_head SET position = $1", head + len(links))
                await _advance(tx, source, max(link.sequence for link in links))

    async def days(self) -> dict[str, date]:
        """The day of the last event up to which a source's chain is whole, by source."""
        return {row["source"]: row["day"] for row in await self._database.fetch("SELECT source, day FROM trail_source")}

    async def heads(self) -> dict[str, Head]:
        """How far each chain reaches."""
        rows = await self._database.fetch("SELECT source, sequence, hash, seen FROM trail_source ORDER BY source")
        return {row["source"]: Head(row["sequence"], row["hash"], row["seen"]) for row in rows}

    async def page(self, filters: Filters, before: tuple[datetime, int] | None, size: int) -> tuple[list[Stored], bool]:
        """Events from new to old, from behind `before` (time and position of the last one given out).

        And whether there are more.

        Raises:
            Unavailable: the database is out of reach.
        """
        conditions, values = _conditions(filters)
        if before:
            values += before
            conditions.append(f"(event_time, position) < (${len(values) - 1}, ${len(values)})")
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = await self._database.fetch(
            f"{_READ} {where} ORDER BY event_time DESC, position DESC LIMIT {size + 1}", *values
        )
        return await self._stored(rows[:size]), len(rows) > size

    async def head(self) -> int:
        """The highest position."""
        return int(await self._database.fetchval("SELECT position FROM trail_head"))

    async def after(self, position: int, event_type: str, size: int, *, off_chain: bool = False) -> list[Stored]:
        """Events in the order in which they came, from behind a position.

        Args:
            position: Where to begin.
            event_type: Only this type; empty means all.
            size: How many at most.
            off_chain: Also those that are known not to be part of their chain.

        Raises:
            Unavailable: the database is out of reach.
        """
        rows = await self._database.fetch(
            f"{_READ} WHERE position > $1 AND ($2 = '' OR type = $2) AND ($3 OR NOT off_chain) "
            f"ORDER BY position LIMIT $4",
            position, event_type, off_chain, size,
        )  # fmt: skip
        return await self._stored(rows)

    async def _stored(self, rows: Sequence[Any]) -> list[Stored]:
        events = [AuditEvent.FromString(row["event"]) for row in rows]
        sources = {event.source for event in events if tombstone.is_tombstone(event)}
        statements = await self._database.fetch(_STATEMENTS, tombstone.STATEMENT, sorted(sources)) if sources else []
        stated = {
            (event.source, tombstone.parking(event))
            for row in statements
            for event in [AuditEvent.FromString(row["event"])]
        }
        return [
            Stored(row["position"], row["event_time"], event, _standing(row, event, stated))
            for row, event in zip(rows, events, strict=True)
        ]

    async def forget(self) -> None:
        """Empties the projection, so that it is read from S3 again.

        Positions go on: who watches sees everything again.
        """
        # Heads and objects stay until the end, so that no checkpoint is signed over half of it; and no statement takes
        # long.
        while await self._database.fetchval(_DELETE_SOME, DELETED_AT_ONCE):
            pass
        async with self._database.transaction() as tx:
            # The checkpointer's lock first, as it takes them: it waits in its pass for the holder of the other one.
            await tx.fetchval("SELECT number FROM checkpoint_chain FOR UPDATE")
            await tx.fetchval("SELECT position FROM trail_head FOR UPDATE")
            for table in ("trail_event", "trail_object", "trail_source"):
                await tx.execute(f"DELETE FROM {table}")
            # The checkpoints are read from S3 again, too: what they list is known to be vouched for.
            await tx.execute("UPDATE checkpoint_chain SET number = 0, hash = '', time = 'epoch'")


def _standing(row: Any, event: AuditEvent, stated: Collection[tuple[str, Parking | None]]) -> Standing:
    if row["off_chain"]:
        return Standing.OFF_CHAIN
    if tombstone.is_tombstone(event):
        parking = Parking(event.sequence, tombstone.link(event), tombstone.digest(event))
        return Standing.CHAINED if row["settled"] and (event.source, parking) in stated else Standing.PENDING
    return Standing.CHAINED if row["settled"] else Standing.PENDING


async def _contradicting(tx: Transaction, source: str, links: Sequence[Link]) -> set[tuple[int, bytes]]:
    """Number and hash of those at whose number the chain has another event, which the one behind it names."""
    rows = await tx.fetch(
        """
        SELECT e.sequence, e.hash, e.previous_hash, e.sequence = s.sequence AS is_last FROM trail_event e
            JOIN trail_source s USING (source)
        WHERE source = $1 AND e.sequence = ANY($2::bigint[]) AND e.sequence <= s.sequence AND NOT off_chain
        """,
        source, [link.sequence for link in links],
    )  # fmt: skip
    chained = {row["sequence"]: row for row in rows}
    found = {
        (link.sequence, link.hash)
        for link in links
        if link.sequence in chained and chained[link.sequence]["hash"] != link.hash
    }
    last = next(
        (row for number, row in chained.items() if row["is_last"] and any(number == other for other, _ in found)), None
    )
    if last is None:
        return found
    # Nothing names the last one yet: it has a rival, and neither is beyond doubt.
    await tx.execute(
        "UPDATE trail_source SET sequence = $2, hash = $3 WHERE source = $1",
        source,
        last["sequence"] - 1,
        last["previous_hash"],
    )
    return {(number, own) for number, own in found if number != last["sequence"]}


async def _insert(
    tx: Transaction, head: int, source: str, links: Sequence[Link], off_chain: Collection[tuple[int, bytes]]
) -> None:
    events = [link.event for link in links]
    await tx.execute(
        _INSERT,
        head,
        source,
        [link.sequence for link in links],
        [link.previous_hash for link in links],
        [link.hash for link in links],
        [hashlib.sha256(link.payload).digest() for link in links],
        [event.event_time.ToDatetime(UTC) for event in events],
        [_indexed(event.type) for event in events],
        [_indexed(event.actor) for event in events],
        [_indexed(event.subject) for event in events],
        [link.payload for link in links],
        [(link.sequence, link.hash) in off_chain for link in links],
    )


def _indexed(text: str) -> str:
    """What a column with an index can hold, of whatever an event says: one event must not stop the projection.

    The event itself is kept whole.
    """
    return text.replace("\0", "\ufffd")[:INDEXED_CHARACTERS]


async def _advance(tx: Transaction, source: str, seen: int) -> None:
    """Moves the source's head over what follows it without a gap."""
    await tx.execute(
        # As long as the first event was not read, the bucket is listed from its beginning: it may have years that this
        # database never saw.
        "INSERT INTO trail_source VALUES ($1, 0, '', 'epoch', $2) ON CONFLICT (source) DO UPDATE "
        "SET seen = greatest(trail_source.seen, $2)",
        source, seen,
    )  # fmt: skip
    at = await tx.fetchrow("SELECT sequence, hash FROM trail_source WHERE source = $1", source)
    assert at is not None
    sequence, hash_ = at["sequence"], at["hash"]
    while await tx.fetchval(
        "SELECT EXISTS (SELECT FROM trail_event WHERE source = $1 AND sequence = $2)", source, sequence + 1
    ):
        reached = await _walk(tx, source, sequence, hash_)
        if reached[0] == sequence:
            # What follows does not follow from here: was it a forged event that came first?
            reached = await _walk(tx, source, *await _retreat(tx, source, sequence))
        if reached[0] <= sequence:
            break
        sequence, hash_ = reached
    if sequence > at["sequence"]:
        await tx.execute(
            """
            UPDATE trail_source SET sequence = $2, hash = $3, day = (
                -- Not in the future, whatever the clock of the source said: what came after it would not be looked for.
                SELECT (least(event_time, now()) AT TIME ZONE 'UTC')::date FROM trail_event WHERE source = $1
                    AND sequence = $2 AND hash = $3 LIMIT 1
            ) WHERE source = $1
            """,
            source, sequence, hash_,
        )  # fmt: skip


async def _walk(tx: Transaction, source: str, sequence: int, hash_: bytes) -> tuple[int, bytes]:
    """Walks on from an event of the chain, and marks what it decides about.

    Returns number and hash of the last event that is beyond doubt.
    """
    rows = await tx.fetch(
        "SELECT sequence, previous_hash, hash, off_chain FROM trail_event WHERE source = $1 AND "
        "sequence > $2 ORDER BY sequence LIMIT $3",
        source, sequence, WALKED_AT_ONCE,
    )  # fmt: skip
    chain = confirmed(sequence, hash_, [(row["sequence"], row["previous_hash"], row["hash"]) for row in rows])
    by_number = dict(enumerate(chain, sequence + 1))
    wrong = {
        (row["sequence"], row["hash"])
        for row in rows
        if row["off_chain"] != (row["hash"] != by_number.get(row["sequence"], row["hash"]))
    }
    if wrong:
        await tx.execute(
            """
            UPDATE trail_event e SET off_chain = NOT off_chain
                FROM unnest($2::bigint[], $3::bytea[]) AS wrong (sequence, hash)
            WHERE source = $1 AND e.sequence = wrong.sequence AND e.hash = wrong.hash
            """,
            source, [number for number, _ in wrong], [own for _, own in wrong],
        )  # fmt: skip
    return (sequence + len(chain), chain[-1]) if chain else (sequence, hash_)


async def _retreat(tx: Transaction, source: str, sequence: int) -> tuple[int, bytes]:
    """A place before `sequence` where only one event is: a walk may begin there."""
    row = await tx.fetchrow(
        """
        SELECT sequence, (array_agg(hash))[1] AS hash FROM trail_event WHERE source = $1 AND sequence BETWEEN $2 AND $3
        GROUP BY sequence HAVING count(DISTINCT hash) = 1 ORDER BY sequence DESC LIMIT 1
        """,
        source, sequence - WALKED_AT_ONCE // 2, sequence - RETREAT,
    )  # fmt: skip
    return (row["sequence"], row["hash"]) if row else (0, b"")


def confirmed(sequence: int, hash_: bytes, links: Iterable[tuple[int, bytes, bytes]]) -> list[bytes]:
    """How far a chain is beyond doubt: the hashes of its next events.

    Where a number has several events (a forged one beside the true one) the longest chain is the true one; where that
    does not tell, it ends before them.

    Args:
        sequence: Where the chain was before.
        hash_: Of the event with that number.
        links: Number, previous hash and hash of the events behind it, by number.
    """
    layers: list[dict[bytes, bytes]] = []
    at, candidates, layer = sequence, {hash_}, dict[bytes, bytes]()
    for number, previous, own in links:
        if number != at:
            if number != at + 1 or (layer and not candidates):
                break
            if layer:
                layers.append(layer)
                candidates = set(layer)
            elif at != sequence:
                break
            at, layer = number, {}
        if previous in candidates:
            layer[own] = previous
    if layer:
        layers.append(layer)
    ends = set(layers[-1]) if layers else set()
    while layers and len(ends) > 1:
        ends = {layers[-1][end] for end in ends}
        layers.pop()
    chain: list[bytes] = []
    at_hash = next(iter(ends), b"")
    for layer in reversed(layers):
        chain.append(at_hash)
        at_hash = layer[at_hash]
    return chain[::-1]


def _conditions(filters: Filters) -> tuple[list[str], list[object]]:
    chosen = [
        ("event_time >= ${}", filters.start),
        ("event_time < ${}", filters.end),
        ("actor = ${}", filters.actor),
        ("subject = ${}", filters.subject),
        ("type = ${}", filters.type),
    ]
    conditions = [] if filters.off_chain else ["NOT off_chain"]
    values: list[object] = []
    for condition, value in chosen:
        if value:
            values.append(value)
            conditions.append(condition.format(len(values)))
            if condition.startswith(("actor", "subject")):
                # As the partial indexes say it, for the planner.
                conditions.append(f"{condition.partition(' ')[0]} <> ''")
    return conditions, values
