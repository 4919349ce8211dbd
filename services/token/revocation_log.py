"""The record of what is revoked: rows with a contiguous sequence, of which Redis and every process hold copies."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Record

from mesh.database import Database, Transaction
from mesh.tokens.revocations import Revocation, RevocationKind, Snapshot
from mesh.tokens.verifier import LEEWAY_SECONDS, MAX_LIFETIME_SECONDS

KEPT = timedelta(seconds=MAX_LIFETIME_SECONDS + LEEWAY_SECONDS)
"""How long an entry is kept: as long as any token lives that was issued before it."""


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
        """Args:
        database: Token's own.
        """
        self._database = database
        self.appended = asyncio.Event()
        """Set when an entry of this process was committed. Whoever waits for it clears it."""

    async def append(
        self,
        tx: Transaction,
        kind: RevocationKind,
        values: Sequence[str],
        time: datetime,
        not_before: datetime | None = None,
        *,
        kept: timedelta = KEPT,
    ) -> None:
        """Revokes, in the transaction of whatever is the cause. Call it last: it takes the lock that orders all revocations.

        Args:
            tx: The transaction.
            kind: By what to refuse.
            values: The claims' values.
            time: Now.
            not_before: For subjects and clients: tokens with a later `iat` are good again.
            kept: How long the entry is needed.
        """
        if not values:
            return
        last = await tx.fetchval("UPDATE revocation_log SET sequence = sequence + $1 RETURNING sequence", len(values))
        await tx.execute(
            """
            INSERT INTO revocations (sequence, kind, value, not_before, expire_time)
            SELECT $1 + place, $2, value, $3, $4 FROM unnest($5::text[]) WITH ORDINALITY AS revoked (value, place)
            """,
            last - len(values),
            int(kind),
            int(not_before.timestamp()) if not_before else 0,
            int((time + kept).timestamp()),
            list(values),
        )
        tx.after_commit[self.appended.set] = None

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
            LEFT JOIN LATERAL (SELECT * FROM revocations WHERE sequence >= $1 ORDER BY sequence LIMIT $2) AS entry ON true
            ORDER BY entry.sequence
            """,
            first,
            limit,
        )
        return Tail(str(rows[0]["epoch"]), rows[0]["newest"], tuple(_revocation(row) for row in rows if row["sequence"] is not None))

    async def snapshot(self, time: datetime) -> Snapshot:
        """Everything that is revoked and has not expired at `time`, by any clock of the mesh. One statement, hence of one moment."""
        rows = await self._database.fetch(
            """
            SELECT log.epoch, log.sequence AS newest, entry.*
            FROM revocation_log AS log LEFT JOIN revocations AS entry ON entry.expire_time > $1
            """,
            # As `RevocationSet` forgets: a verifier whose clock is behind still admits what has expired by ours.
            int(time.timestamp()) - LEEWAY_SECONDS,
        )
        return Snapshot(str(rows[0]["epoch"]), rows[0]["newest"], tuple(_revocation(row) for row in rows if row["sequence"] is not None))

    async def begin_epoch(self, ended: str) -> bool:
        """Says that the log was restored: numbers of the epoch `ended` mean nothing any more. False when somebody else has said so already."""
        tag = await self._database.execute("UPDATE revocation_log SET epoch = gen_random_uuid() WHERE epoch = $1", uuid.UUID(ended))
        return tag == "UPDATE 1"


def _revocation(row: Record) -> Revocation:
    return Revocation(
        sequence=row["sequence"],
        kind=RevocationKind(row["kind"]),
        value=row["value"],
        not_before=row["not_before"],
        expires_at=row["expire_time"],
    )
