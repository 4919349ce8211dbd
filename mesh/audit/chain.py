"""The chain of a source's events: contiguous numbers, each event carrying the hash of the one before it.

The chain's head is one row. Whoever holds its lock numbers events, and nobody else: that is the only fence there is, so any number of replicas may
relay one source, behind a transaction pooler too.
"""

import hashlib
from datetime import UTC, datetime

import structlog
from authmesh.audit.v1 import audit_event_pb2
from google.protobuf.message import DecodeError

from mesh.database import Database
from mesh.ids import uuid7

NUMBERED_AT_ONCE = 500
"""Events numbered in one transaction: enough to keep up, few enough that the lock is held for milliseconds."""

_log = structlog.get_logger("authmesh.audit")

UNNUMBERED = "kind = 'audit' AND sequence IS NULL"


async def number_events(database: Database, source: str) -> int:
    """Numbers and links the events that have no number yet, in the order of their rows. Returns how many.

    Raises:
        Unavailable: the database is out of reach; nothing was numbered.
    """
    if not await database.fetchval(f"SELECT EXISTS (SELECT FROM outbox WHERE {UNNUMBERED})"):
        # Asked four times a second: one read, and no lock, while nothing happens.
        return 0
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO outbox_chain (source) VALUES ($1) ON CONFLICT DO NOTHING", source)
        head = await tx.fetchrow("SELECT sequence, hash FROM outbox_chain WHERE source = $1 FOR UPDATE", source)
        assert head is not None
        rows = await tx.fetch(f"SELECT id, destination, payload FROM outbox WHERE {UNNUMBERED} ORDER BY id LIMIT $1", NUMBERED_AT_ONCE)
        if not rows:
            return 0
        sequence, previous_hash = head["sequence"], head["hash"]
        linked: list[tuple[int, int, bytes]] = []
        for row in rows:
            sequence += 1
            event = _event(source, row["destination"], row["payload"])
            event.sequence, event.previous_hash = sequence, previous_hash
            payload = event.SerializeToString(deterministic=True)
            previous_hash = hashlib.sha256(payload).digest()
            linked.append((row["id"], sequence, payload))
        ids, sequences, payloads = zip(*linked, strict=True)
        await tx.execute(
            """
            UPDATE outbox SET sequence = linked.sequence, payload = linked.payload
            FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS linked (id, sequence, payload)
            WHERE outbox.id = linked.id
            """,
            list(ids),
            list(sequences),
            list(payloads),
        )
        await tx.execute("UPDATE outbox_chain SET sequence = $2, hash = $3 WHERE source = $1", source, sequence, previous_hash)
        return len(linked)


def _event(source: str, event_type: str, payload: bytes) -> audit_event_pb2.AuditEvent:
    """The event of a row; a tombstone that tells of it, where the row holds none: it must neither stop the chain nor vanish from it."""
    try:
        return audit_event_pb2.AuditEvent.FromString(payload)
    except DecodeError:
        digest = hashlib.sha256(payload).hexdigest()
        _log.error("an audit event cannot be read", type=event_type, sha256=digest)
        tombstone = audit_event_pb2.AuditEvent(
            event_id=str(uuid7()), source=source, type=event_type, outcome=audit_event_pb2.OUTCOME_FAILURE, detail={"unreadable": digest}
        )
        tombstone.event_time.FromDatetime(datetime.now(UTC))
        return tombstone
