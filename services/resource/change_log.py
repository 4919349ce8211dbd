"""The log of changes: what each person can notice, in one order that every reader sees alike.

A change is written in the transaction that makes it, without a number: numbers taken inside transactions would be
committed out of order, and a reader who has passed 8 would never see a 7 that commits later; one locked counter would
put all writers in a queue, each waiting for the commit of the one before. So changes are numbered after they are
committed, in batches, by the process that holds the lock of the head, the way the relay numbers audit events. A reader
who has read up to a number has seen everything below it.

What it costs doesn't grow with how many people see a resource, nor with how often it changes:

- A call writes one row. What one person notices (`append`) is numbered first. What all viewers notice is an
  announcement, one for each resource until it is made: a hundred updates before then are one.
- Announcements are made in turns, one of each owner at a time, and an owner with many viewers waits longer for the next
  turn.
- The numbered log has one row for each person and resource, its last change. A reader who is behind is told of it once.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mesh.storage.database import Database, Transaction
from services.resource.resource import Resource
from services.resource.share import Change
from services.resource.store import COLUMNS, resource_of

NUMBERED_AT_ONCE = 1_000
"""Changes of single persons in a batch, and as many again for announcements."""
OWNERS_AT_ONCE = 50
"""Owners who have their turn in one batch."""
VIEWERS_PER_SECOND = 1_000
"""How many people the announcements of one owner reach in a second, from each process."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that one person can notice."""

    sequence: int
    change: Change
    resource_id: UUID
    resource: Resource | None
    """As that person sees it now; None when they don't, and then a REMOVED comes later in the log."""


@dataclass(frozen=True, slots=True)
class Extract:
    """A part of one person's log, and the bounds of the log at that moment."""

    entries: Sequence[Entry]
    head: int
    """The highest number that was given."""
    purged: int
    """The highest number that was forgotten."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """What came of numbering one batch."""

    head: int
    more: bool
    """Whether there is probably another batch."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """The announcement that an owner can make now."""

    resource_id: UUID
    viewers: int


_NUMBER = f"""
WITH noticed AS (
    DELETE FROM unnumbered_changes WHERE id IN (SELECT id FROM unnumbered_changes ORDER BY id LIMIT $2)
    RETURNING id, user_id, resource_id, change
), free AS MATERIALIZED (
    SELECT resource_id FROM announcements WHERE resource_id = ANY($3::uuid[]) FOR UPDATE SKIP LOCKED
), announced AS (
    DELETE FROM announcements WHERE resource_id IN (SELECT resource_id FROM free) AND (SELECT count(*)
        FROM noticed) < $2
    RETURNING owner_id, resource_id, removed
), withdrawn AS (
    DELETE FROM shares s USING announced a WHERE a.removed AND s.resource_id = a.resource_id
    RETURNING s.holder_id, s.resource_id
), heard AS (
    SELECT user_id, resource_id, change, id AS place FROM noticed
    UNION ALL
    SELECT owner_id, resource_id, {Change.UPDATED:d}, 0 FROM announced WHERE NOT removed
    UNION ALL
    SELECT s.holder_id, s.resource_id, {Change.UPDATED:d}, 0
    FROM announced a JOIN shares s USING (resource_id) WHERE NOT a.removed AND s.holder_id IS NOT NULL
    UNION ALL
    SELECT owner_id, resource_id, {Change.REMOVED:d}, {2**63 - 1} FROM announced WHERE removed
    UNION ALL
    SELECT holder_id, resource_id, {Change.REMOVED:d}, {2**63 - 1} FROM withdrawn WHERE holder_id IS NOT NULL
), latest AS (
    SELECT user_id, resource_id, max(place) AS place, (array_agg(change ORDER BY place DESC))[1] AS change,
        bool_or(change = {Change.ADDED:d}) AS added
    FROM heard GROUP BY user_id, resource_id
), numbered AS (
    INSERT INTO changes (sequence, user_id, resource_id, seen_since, create_time)
    SELECT sequence, user_id, resource_id,
        CASE WHEN change = {Change.REMOVED:d} THEN NULL WHEN added THEN sequence ELSE 0 END, now()
    FROM (SELECT $1 + row_number() OVER (ORDER BY place) AS sequence, user_id, resource_id, change, added
        FROM latest) placed
    ON CONFLICT (user_id, resource_id) DO UPDATE SET
        sequence = excluded.sequence,
        create_time = excluded.create_time,
        seen_since = CASE WHEN excluded.seen_since = 0 THEN coalesce(changes.seen_since,
            excluded.sequence) ELSE excluded.seen_since END
    RETURNING true
)
SELECT (SELECT count(*) FROM numbered) AS numbered, (SELECT count(*)
    FROM noticed) AS noticed, ARRAY(SELECT owner_id FROM announced) AS announced
"""
"""Numbers from $1 on up to $2 changes that one person notices and, when those were all, the announcements of the
resources $3.

Of one person and resource only the last change counts. `seen_since` is the number with which the person's present
access began: null once it ended, and 0 for what was there before the log.
"""


class ChangeLog:
    """Writes, numbers and reads changes."""

    def __init__(self, database: Database, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Initializes the instance.

        Args:
            database: Where it is.
            monotonic: Seconds, for the turns of owners.
        """
        self._database = database
        self._monotonic = monotonic
        self._next_turns: dict[UUID, float] = {}
        """When owners whose announcements reached many have the next turn. The others can have one now."""
        self.grown = asyncio.Event()
        """Set when this process has committed changes."""

    async def append(self, tx: Transaction, change: Change, resource_id: UUID, user: UUID) -> None:
        """Writes a change that one person notices. The transaction holds the lock of the resource, or has made it."""
        await tx.execute(
            "INSERT INTO unnumbered_changes (user_id, resource_id, change) VALUES ($1, $2, $3)",
            user,
            resource_id,
            change,
        )
        tx.after_commit[self.grown.set] = None

    async def announce(self, tx: Transaction, resource: Resource, *, removed: bool = False) -> None:
        """Writes that a resource was changed or is being deleted, which everyone notices who can see it.

        The transaction holds the lock of the resource. The shares of a deleted one stay until this is announced.
        """
        # An announcement that waits already stays locked until this is committed: made before, it would tell of the
        # state before.
        await tx.execute(
            """
            INSERT INTO announcements (resource_id, owner_id, removed) VALUES ($1, $2, $3)
            ON CONFLICT (resource_id) DO UPDATE SET removed = excluded.removed, owner_id = excluded.owner_id
            """,
            resource.id,
            resource.owner,
            removed,
        )
        tx.after_commit[self.grown.set] = None

    async def head(self) -> int:
        """The highest number that was given."""
        return int(await self._database.fetchval("SELECT sequence FROM change_head"))

    async def number(self) -> Numbered:
        """Numbers one batch of what was committed.

        What single persons notice, and announcements when nothing of that is left.
        """
        waiting = await self._database.fetchrow(
            "SELECT sequence, EXISTS (SELECT FROM unnumbered_changes) AS noticed, EXISTS (SELECT "
            "FROM announcements) AS announced FROM change_head"
        )
        assert waiting is not None
        turns = await self._turns() if waiting["announced"] else {}
        if not waiting["noticed"] and not turns:
            return Numbered(waiting["sequence"], more=False)
        async with self._database.transaction() as tx:
            head = await tx.fetchval("SELECT sequence FROM change_head FOR UPDATE")
            # A statement of its own, behind the lock: it sees all that was committed when the lock was given.
            done = await tx.fetchrow(_NUMBER, head, NUMBERED_AT_ONCE, [turn.resource_id for turn in turns.values()])
            assert done is not None
            head += done["numbered"]
            await tx.execute("UPDATE change_head SET sequence = $1", head)
        now = self._monotonic()
        for owner in done["announced"]:
            self._next_turns[owner] = now + turns[owner].viewers / VIEWERS_PER_SECOND
        return Numbered(head, more=done["noticed"] == NUMBERED_AT_ONCE or bool(done["announced"]))

    async def _turns(self) -> dict[UUID, _Turn]:
        """The announcements of the next batch, one of each owner, those first that wait the longest."""
        now = self._monotonic()
        self._next_turns = {owner: turn for owner, turn in self._next_turns.items() if turn > now}
        rows = await self._database.fetch(
            """
            SELECT owner_id, resource_id, 1 + (SELECT count(*) FROM shares s
                WHERE s.resource_id = first.resource_id) AS viewers
            FROM (
                SELECT * FROM (
                    SELECT DISTINCT ON (owner_id) * FROM announcements WHERE owner_id <> ALL($1::uuid[])
                        ORDER BY owner_id, id
                ) next ORDER BY id LIMIT $2
            ) first ORDER BY id
            """,
            list(self._next_turns),
            OWNERS_AT_ONCE,
        )
        turns: dict[UUID, _Turn] = {}
        viewers = 0
        for row in rows:
            # Shares without a holder count too: how soon an owner's turn comes must not tell which addresses have
            # accounts.
            viewers += row["viewers"]
            if turns and viewers > NUMBERED_AT_ONCE:
                break
            turns[row["owner_id"]] = _Turn(row["resource_id"], row["viewers"])
        return turns

    async def users_between(self, after: int, upto: int, among: Collection[UUID]) -> list[UUID]:
        """Those of `among` who have changes above `after`, up to `upto`."""
        rows = await self._database.fetch(
            "SELECT DISTINCT user_id FROM changes WHERE sequence > $1 AND sequence <= $2 AND user_id = ANY($3::uuid[])",
            after,
            upto,
            list(among),
        )
        return [row["user_id"] for row in rows]

    async def read(self, user: UUID, after: int, limit: int) -> Extract:
        """The next `limit` changes above `after` that `user` can notice, from one snapshot."""
        rows = await self._database.fetch(
            f"""
            SELECT h.sequence AS head, h.purged, c.sequence, c.seen_since, c.resource_id, {COLUMNS},
                CASE WHEN r.owner_id = $1 THEN 3 ELSE (
                    SELECT max(s.role) FROM shares s WHERE s.resource_id = r.id AND s.holder_id = $1
                ) END AS role
            FROM change_head h
            LEFT JOIN LATERAL (
                SELECT sequence, seen_since, resource_id FROM changes WHERE user_id = $1 AND sequence > $2
                    ORDER BY sequence LIMIT $3
            ) c ON true
            LEFT JOIN resources r ON r.id = c.resource_id AND c.seen_since IS NOT NULL
            ORDER BY c.sequence
            """,
            user,
            after,
            limit,
        )
        entries = [
            Entry(
                row["sequence"],
                _change(row["seen_since"], after),
                row["resource_id"],
                resource_of(row, row["role"]) if row["role"] else None,
            )
            for row in rows
            if row["sequence"] is not None
        ]
        return Extract(entries, rows[0]["head"], rows[0]["purged"])

    async def purge(self, before: datetime, limit: int) -> int:
        """Forgets up to `limit` of the oldest changes, those numbered before `before`. Returns how many."""
        async with self._database.transaction() as tx:
            # Numbering writes to these rows as well: who touches them holds the head.
            await tx.fetchval("SELECT sequence FROM change_head FOR UPDATE")
            forgotten = await tx.fetchval(
                """
                WITH old AS (
                    DELETE FROM changes WHERE sequence IN (
                        SELECT sequence FROM (SELECT sequence, create_time FROM changes
                            ORDER BY sequence LIMIT $2) oldest
                        WHERE create_time < $1
                    ) RETURNING sequence
                ), raised AS (
                    UPDATE change_head SET purged = greatest(purged, (SELECT max(sequence) FROM old))
                    WHERE EXISTS (SELECT FROM old)
                )
                SELECT count(*) FROM old
                """,
                before,
                limit,
            )
        return int(forgotten)


def _change(seen_since: int | None, after: int) -> Change:
    """What someone notices who has read up to `after`: several changes that they have not read yet are one to them."""
    if seen_since is None:
        return Change.REMOVED
    return Change.ADDED if seen_since > after else Change.UPDATED
