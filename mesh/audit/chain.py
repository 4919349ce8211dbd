"""The chain of a source's events: contiguous numbers, each event carrying the hash of the one before it.

The chain's head is one row. Whoever holds its lock numbers events, and nobody else: that is the only fence there is, so any number of replicas may relay
one source, behind a transaction pooler too.
"""

import hashlib

from authmesh.audit.v1 import audit_event_pb2
from mesh.database import Database

NUMBERED_AT_ONCE = 500
"""Events numbered in one transaction: enough to keep up, few enough that the lock is held for milliseconds."""


async def number_events(database: Database, source: str) -> int:
    """Numbers and links the events that have no number yet, in the order of their rows. Returns how many.

    Raises:
        Unavailable: the database is out of reach; nothing was numbered.
    """
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO outbox_chain (source) VALUES ($1) ON CONFLICT DO NOTHING", source)
        head = await tx.fetchrow("SELECT sequence, hash FROM outbox_chain WHERE source = $1 FOR UPDATE", source)
        assert head is not None
        rows = await tx.fetch("SELECT id, payload FROM outbox WHERE kind = 'audit' AND sequence IS NULL ORDER BY id LIMIT $1", NUMBERED_AT_ONCE)
        if not rows:
            return 0
        sequence, previous_hash = head["sequence"], head["hash"]
        linked: list[tuple[int, int, bytes]] = []
        for row in rows:
            sequence += 1
            event = audit_event_pb2.AuditEvent.FromString(row["payload"])
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
