"""The chain of a source's events: contiguous numbers, each event carrying the hash of the one before it.

The chain's head is one row. The process that holds its lock numbers events, and no other: that is the only fence, so
any number of replicas may relay one source, behind a transaction pooler too.

Personal data is sealed here, before the hash is made: the chain runs over what S3 will have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import structlog
from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from mesh.audit import subject_keys, tombstone
from mesh.audit.personal import key_names, seal
from mesh.storage.database import Database, Transaction

NUMBERED_AT_ONCE = 500
"""Events numbered in one transaction: enough to keep up, few enough that the lock is held for milliseconds."""
MAX_EVENT_BYTES = 200 * 1024
"""Of an event's JSON. EventBridge and SQS take 256 KiB with their envelope; nothing that we write comes near."""

_log = structlog.get_logger("authmesh.audit")

UNNUMBERED = "kind = 'audit' AND sequence IS NULL"


def is_known(event: AuditEvent) -> bool:
    """Whether this release knows every field of an event.

    One that it does not know may be personal, and would not be in its JSON: a verifier would say that the event
    was changed. While two releases share an outbox, the newer one relays such an event.
    """
    return not len(UnknownFieldSet(event))


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
        rows = await tx.fetch(
            f"SELECT id, destination, payload FROM outbox WHERE {UNNUMBERED} ORDER BY id LIMIT $1", NUMBERED_AT_ONCE
        )
        if not rows:
            return 0
        read = [_read(source, row["id"], row["destination"], row["payload"]) for row in rows]
        links = list(takewhile(lambda link: is_known(link.event), read))
        if len(links) < len(read):
            _log.warning("an event waits for the release that wrote it", row=read[len(links)].row)
        if not links:
            return 0
        names = {link.row: key_names(link.parked_event or link.event) for link in links}
        keys = await subject_keys.obtain(tx, {name for own in names.values() for name in own})
        sequence, previous_hash = head["sequence"], head["hash"]
        for link in links:
            sequence += 1
            link.event.sequence, link.event.previous_hash = sequence, previous_hash
            if link.parked_event:
                link.parked_event.sequence = sequence
            seal(link.parked_event or link.event, [keys[name] for name in names[link.row]])
            previous_hash = tombstone.link(link.event)
        await _write(tx, links)
        await tx.execute(
            "UPDATE outbox_chain SET sequence = $2, hash = $3 WHERE source = $1", source, sequence, previous_hash
        )
        return len(links)


@dataclass(frozen=True, slots=True)
class _Link:
    """A row on its way into the chain."""

    row: int
    event: AuditEvent
    parked: str
    """Why its event was replaced by a tombstone; empty for the others."""
    parked_event: AuditEvent | None = None
    """That event, where it can be read: what is personal in it is sealed like that of any other, or erasing the key
    would leave it."""


def _read(source: str, row: int, event_type: str, payload: bytes) -> _Link:
    """The event of a row.

    A tombstone where it holds none that could be delivered: it must neither stop the chain nor vanish from it.
    """
    try:
        event = AuditEvent.FromString(payload)
        event.event_time.ToDatetime()
    except (DecodeError, ValueError):
        # Bytes that are not an event, or a time that is none: neither the bus nor anyone else could read it.
        return _Link(row, tombstone.unnumbered(source, event_type, payload, "unreadable"), "unreadable")
    # JSON is at most some six times as long: the long form is only made of what may be too long.
    if len(payload) * 6 > MAX_EVENT_BYTES and len(json_format.MessageToJson(event, indent=None)) > MAX_EVENT_BYTES:
        return _Link(row, tombstone.unnumbered(source, event_type, payload, "too_large"), "too_large", event)
    return _Link(row, event, "")


async def _write(tx: Transaction, links: Sequence[_Link]) -> None:
    if parked := [link for link in links if link.parked]:
        await tx.execute(
            """
            INSERT INTO outbox_parked (id, kind, destination, payload, sequence, reason, create_time)
            SELECT outbox.id, kind, destination, coalesce(parked.payload, outbox.payload), parked.sequence,
                parked.reason, create_time
            FROM outbox JOIN unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[]) AS parked (id, sequence,
                reason, payload)
              ON outbox.id = parked.id
            """,
            [link.row for link in parked],
            [link.event.sequence for link in parked],
            [link.parked for link in parked],
            [link.parked_event.SerializeToString(deterministic=True) if link.parked_event else None for link in parked],
        )
        for link in parked:
            _log.error(
                "entry parked",
                kind="audit",
                type=link.event.detail["type"],
                reason=link.parked,
                sequence=link.event.sequence,
            )
    await tx.execute(
        """
        UPDATE outbox SET sequence = linked.sequence, payload = linked.payload
        FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS linked (id, sequence, payload)
        WHERE outbox.id = linked.id
        """,
        [link.row for link in links],
        [link.event.sequence for link in links],
        [link.event.SerializeToString(deterministic=True) for link in links],
    )
