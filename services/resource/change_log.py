"""The log of changes: what each person can notice, in one order that every reader sees alike.

A change is written in the transaction that makes it, one row for each person who can see it, without a number: numbers taken inside transactions
would be committed out of order, and a reader who has passed 8 would never see a 7 that commits later; one locked counter would put all writers in a
queue, each waiting for the commit of the one before. So rows are numbered after they are committed, in batches, by whoever holds the lock of the
head, the way the relay numbers audit events. Changes of one resource keep their order: its row is locked before their ids are drawn. A reader who
has read up to a number has seen everything below it.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mesh.database import Database, Transaction
from services.resource.resource import Resource
from services.resource.share import Change
from services.resource.store import COLUMNS, resource_of

NUMBERED_AT_ONCE = 1_000


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


class ChangeLog:
    """Writes, numbers and reads changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.grown = asyncio.Event()
        """Set when this process has committed changes."""

    async def append(self, tx: Transaction, change: Change, resource_id: UUID, users: Collection[UUID]) -> None:
        """Writes a change that `users` can notice. The transaction holds the lock of the resource, or has made it."""
        await tx.execute(
            "INSERT INTO unnumbered_changes (user_id, resource_id, change) SELECT unnest($1::uuid[]), $2, $3", list(users), resource_id, change
        )
        tx.after_commit[self.grown.set] = None

    async def append_for_viewers(self, tx: Transaction, change: Change, resource: Resource) -> None:
        """Writes a change that everybody notices who can see the resource now."""
        rows = await tx.fetch("SELECT holder_id FROM shares WHERE resource_id = $1 AND holder_id IS NOT NULL", resource.id)
        await self.append(tx, change, resource.id, {resource.owner, *(row["holder_id"] for row in rows)})

    async def head(self) -> int:
        """The highest number, after everything that was committed before this call has got one."""
        row = await self._database.fetchrow("SELECT sequence, EXISTS (SELECT FROM unnumbered_changes) AS waiting FROM change_head")
        assert row is not None
        head, numbered = row["sequence"], NUMBERED_AT_ONCE if row["waiting"] else 0
        while numbered == NUMBERED_AT_ONCE:
            head, numbered = await self._number()
        return int(head)

    async def _number(self) -> tuple[int, int]:
        async with self._database.transaction() as tx:
            head = await tx.fetchval("SELECT sequence FROM change_head FOR UPDATE")
            # A statement of its own, behind the lock: it sees all that was committed when the lock was given.
            numbered = await tx.fetchval(
                """
                WITH batch AS (
                    DELETE FROM unnumbered_changes WHERE id IN (SELECT id FROM unnumbered_changes ORDER BY id LIMIT $2)
                    RETURNING id, user_id, resource_id, change
                ), numbered AS (
                    INSERT INTO changes (sequence, user_id, resource_id, change, create_time)
                    SELECT $1 + row_number() OVER (ORDER BY id), user_id, resource_id, change, now() FROM batch
                    RETURNING sequence
                )
                SELECT count(*) FROM numbered
                """,
                head,
                NUMBERED_AT_ONCE,
            )
            await tx.execute("UPDATE change_head SET sequence = $1", head + numbered)
        return head + numbered, numbered

    async def users_between(self, after: int, upto: int, among: Collection[UUID]) -> list[UUID]:
        """Those of `among` who have changes above `after`, up to `upto`."""
        rows = await self._database.fetch(
            "SELECT DISTINCT user_id FROM changes WHERE sequence > $1 AND sequence <= $2 AND user_id = ANY($3::uuid[])", after, upto, list(among)
        )
        return [row["user_id"] for row in rows]

    async def read(self, user: UUID, after: int, limit: int) -> Extract:
        """The next `limit` changes above `after` that `user` can notice, from one snapshot."""
        rows = await self._database.fetch(
            f"""
            SELECT h.sequence AS head, h.purged, c.sequence, c.change, c.resource_id, {COLUMNS},
                CASE WHEN r.owner_id = $1 THEN 3 ELSE (
                    SELECT max(s.role) FROM shares s WHERE s.resource_id = r.id AND s.holder_id = $1
                ) END AS role
            FROM change_head h
            LEFT JOIN LATERAL (
                SELECT sequence, change, resource_id FROM changes WHERE user_id = $1 AND sequence > $2 ORDER BY sequence LIMIT $3
            ) c ON true
            LEFT JOIN resources r ON r.id = c.resource_id AND c.change <> {Change.REMOVED:d}
            ORDER BY c.sequence
            """,
            user,
            after,
            limit,
        )
        entries = [
            Entry(row["sequence"], Change(row["change"]), row["resource_id"], resource_of(row, row["role"]) if row["role"] else None)
            for row in rows
            if row["sequence"] is not None
        ]
        return Extract(entries, rows[0]["head"], rows[0]["purged"])

    async def purge(self, before: datetime, limit: int) -> int:
        """Forgets up to `limit` of the oldest changes, those numbered before `before`. Returns how many."""
        forgotten = await self._database.fetchval(
            """
            WITH old AS (
                DELETE FROM changes WHERE sequence IN (
                    SELECT sequence FROM (SELECT sequence, create_time FROM changes ORDER BY sequence LIMIT $2) oldest WHERE create_time < $1
                ) RETURNING sequence
            ), raised AS (
                UPDATE change_head SET purged = greatest(purged, (SELECT max(sequence) FROM old)) WHERE EXISTS (SELECT FROM old)
            )
            SELECT count(*) FROM old
            """,
            before,
            limit,
        )
        return int(forgotten)
