"""The record of what is revoked: rows with a contiguous sequence, of which Redis and every process hold copies."""

import asyncio
import math
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from asyncpg import Record

from mesh.errors import Reason, Unavailable
from mesh.outbox.work import UnitOfWork
from mesh.storage.database import Database, Transaction
from mesh.tokens.revocations import Revocation, RevocationKind, Snapshot
from mesh.tokens.verifier import LEEWAY_SECONDS, MAX_LIFETIME_SECONDS

KEPT = timedelta(seconds=MAX_LIFETIME_SECONDS + LEEWAY_SECONDS)
"""How long an entry is kept: as long as any token lives that was issued before it."""
PUBLISHED_SECONDS = 1.0
"""How long a transaction that revoked something waits for its publication, at the most: less than any caller's
deadline."""


PIECE = 1000
"""Revocations in one piece of a snapshot: about 60 KB on the wire."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of the log, at one moment."""

    epoch: str
    sequence: int
    """The newest one."""
    revocations: tuple[Revocation, ...]


class RevocationLog:
    """Appends to the log, and reads it."""

    def __init__(self, database: Database) -> None:
        """Initializes the instance.

        Args:
            database: Token's own.
        """
        self._database = database
        self.appended = asyncio.Event()
        """Set when an entry of this process was committed. The one that waits for it clears it."""
        self._published: int | None = None
        self._progress = asyncio.Event()

    async def _until_published(self, sequence: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PUBLISHED_SECONDS):
                while self._published is not None and self._published < sequence:
                    await self._progress.wait()

    def published(self, sequence: int) -> None:
        """Told by this process's publisher how far Redis has the log, and 0 at first.

        Without a publisher nothing waits.
        """
        self._published = sequence
        self._progress.set()
        self._progress = asyncio.Event()

    async def append(
        self,
        tx: UnitOfWork,
        kind: RevocationKind,
        values: Sequence[str],
        time: datetime,
        not_before: datetime | None = None,
        *,
        kept: timedelta = KEPT,
        holder: str = "",
    ) -> None:
        """Revokes, in the transaction of whatever is the cause.

        Call it last: it takes the lock that orders all revocations.

        The block of the unit of work ends when the revocation is committed and published, so an answer that is given
        then comes no sooner than the revocation is on its way to every process. While Redis is out of reach it ends
        `PUBLISHED_SECONDS` after the commit all the same.

        Args:
            tx: The transaction.
            kind: By what to refuse.
            values: The claims' values.
            time: Now.
            not_before: For subjects and clients: tokens with a later `iat` are good again.
            kept: How long the entry is needed.
            holder: For tokens: the session that they belong to, or the client.
        """
        if not values:
            return
        await tx.flush()
        last = await tx.fetchval("UPDATE revocation_log SET sequence = sequence + $1 RETURNING sequence", len(values))
        await tx.execute(
            """
            INSERT INTO revocations (sequence, kind, value, not_before, expire_time, holder)
            SELECT $1 + place, $2, value, $3, $4, $6 FROM unnest($5::text[]) WITH ORDINALITY AS revoked (value, place)
            """,
            last - len(values),
            int(kind),
            int(not_before.timestamp()) if not_before else 0,
            # Up: an entry outlives what it refuses.
            math.ceil((time + kept).timestamp()),
            list(values),
            holder,
        )
        tx.afterwards[self] = partial(self._until_published, last)
        tx.after_commit[self.appended.set] = None

    async def tokens_of(self, tx: Transaction, holder: str, time: datetime) -> set[str]:
        """The tokens of a session or a client that were revoked alone and have not expired.

        Expired means by every clock of the mesh.
        """
        rows = await tx.fetch(
            "SELECT value FROM revocations WHERE kind = 1 AND holder = $1 AND expire_time > $2",
            holder,
            int(time.timestamp()) - LEEWAY_SECONDS,
        )
        return {row["value"] for row in rows}

    async def tail(self, first: int, limit: int) -> Tail:
        """The log from one sequence on. One statement, hence of one moment.

        Args:
            first: The first sequence wanted. An entry that was purged is left out.
            limit: The most entries wanted.
        """
        rows = await self._database.fetch(
            """
            SELECT log.epoch, log.sequence AS newest, entry.*
            FROM revocation_log AS log
            LEFT JOIN LATERAL (SELECT * FROM revocations WHERE sequence >= $1
                ORDER BY sequence LIMIT $2) AS entry ON true
            ORDER BY entry.sequence
            """,
            first,
            limit,
        )
        return Tail(
            str(rows[0]["epoch"]),
            rows[0]["newest"],
            tuple(_revocation(row) for row in rows if row["sequence"] is not None),
        )

    async def snapshot(self, time: datetime) -> AsyncGenerator[Snapshot]:
        """Everything that is revoked and has not expired at `time`, by any clock of the mesh, in pieces.

        A statement for each piece, so that a slow reader holds nothing. All the same it is of the moment of the first:
        entries are only ever appended, in the order of their sequence, and later ones are left out.

        Raises:
            Unavailable: DEPENDENCY_UNAVAILABLE: the log was restored meanwhile.
        """
        # As `RevocationSet` forgets: a verifier whose clock is behind still admits what has expired by ours.
        expired = int(time.timestamp()) - LEEWAY_SECONDS
        epoch: uuid.UUID | None = None
        newest: int | None = None
        last = 0
        while True:
            rows = await self._database.fetch(
                """
                SELECT log.epoch, log.sequence AS newest, entry.*
                FROM revocation_log AS log
                LEFT JOIN LATERAL (SELECT * FROM revocations
                    WHERE sequence > $1 AND sequence <= coalesce($2, log.sequence) AND expire_time > $3
                    ORDER BY sequence LIMIT $4) AS entry ON true
                ORDER BY entry.sequence
                """,
                last,
                newest,
                expired,
                PIECE,
            )
            newest = rows[0]["newest"] if newest is None else newest
            epoch = epoch or rows[0]["epoch"]
            if epoch != rows[0]["epoch"]:
                raise Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "the revocation log was restored: try again")
            revocations = tuple(_revocation(row) for row in rows if row["sequence"] is not None)
            yield Snapshot(str(epoch), newest, revocations)
            if len(revocations) < PIECE:
                return
            last = revocations[-1].sequence

    async def begin_epoch(self, ended: str) -> bool:
        """Says that the log was restored: numbers of the epoch `ended` mean nothing any more.

        False when someone else has said so already.
        """
        tag = await self._database.execute(
            "UPDATE revocation_log SET epoch = gen_random_uuid() WHERE epoch = $1", uuid.UUID(ended)
        )
        return tag == "UPDATE 1"


def _revocation(row: Record) -> Revocation:
    return Revocation(
        sequence=row["sequence"],
        kind=RevocationKind(row["kind"]),
        value=row["value"],
        not_before=row["not_before"],
        expires_at=row["expire_time"],
    )
