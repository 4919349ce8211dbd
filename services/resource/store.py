"""The SQL of resources and of the request ids that made them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from mesh.storage.database import Database, Transaction
from services.resource.resource import Draft, Resource, Role

PAGE_BYTES = 2 * 1024 * 1024
"""Bytes of content on one page: with the rest of the message it stays below gRPC's 4 MiB."""

COLUMNS = "r.id, r.owner_id, r.display_name, r.content, r.version, r.create_time, r.update_time"


@dataclass(frozen=True, slots=True)
class Page:
    """Some resources of a list, in its order."""

    resources: Sequence[Resource]
    more: bool
    """Whether the list goes on."""


@dataclass(frozen=True, slots=True)
class Creation:
    """What a request id made."""

    digest: bytes
    """Of the draft that came with it."""
    resource: UUID
    created_at: datetime


def resource_of(row: asyncpg.Record, role: int | None) -> Resource:
    """A row with `COLUMNS`, as someone with `role` sees it."""
    return Resource(
        id=row["id"],
        owner=row["owner_id"],
        draft=Draft(row["display_name"], row["content"]),
        version=row["version"],
        created_at=row["create_time"],
        updated_at=row["update_time"],
        role=None if role is None else Role(role),
    )


async def find(connection: Database | Transaction, resource_id: UUID, viewer: UUID) -> Resource | None:
    """A resource with the role that `viewer` has, which may be none."""
    row = await connection.fetchrow(
        f"""
        SELECT {COLUMNS}, CASE WHEN r.owner_id = $2 THEN 3 ELSE (
            SELECT max(s.role) FROM shares s WHERE s.resource_id = r.id AND s.holder_id = $2
        ) END AS role
        FROM resources r WHERE r.id = $1
        """,
        resource_id,
        viewer,
    )
    return None if row is None else resource_of(row, row["role"])


async def lock(tx: Transaction, resource_id: UUID, viewer: UUID) -> Resource | None:
    """`find`, with the resource and its shares held still until the transaction ends."""
    if await tx.fetchval("SELECT id FROM resources WHERE id = $1 FOR UPDATE", resource_id) is None:
        return None
    # A second statement: one that waited for the lock would still see the shares of before its wait.
    return await find(tx, resource_id, viewer)


async def page(database: Database, viewer: UUID, before: UUID, size: int) -> Page:
    """The newest `size` resources that `viewer` can see, with ids below `before`.

    Fewer when they would be too much for one message.
    """
    rows = await database.fetch(
        f"""
        WITH visible AS (
            (SELECT id, 3 AS role FROM resources WHERE owner_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3 + 1)
            UNION ALL
            (SELECT s.resource_id, max(s.role) FROM shares s JOIN resources ON resources.id = s.resource_id
             WHERE s.holder_id = $1 AND s.resource_id < $2 GROUP BY s.resource_id
                 ORDER BY s.resource_id DESC LIMIT $3 + 1)
        ), newest AS (
            SELECT id, max(role) AS role FROM visible GROUP BY id ORDER BY id DESC LIMIT $3 + 1
        ), measured AS (
            SELECT r.id, n.role, row_number() OVER newer AS place, lead(r.id) OVER newer IS NOT NULL AS more,
                sum(octet_length(r.content)) OVER newer AS bytes
            FROM newest n JOIN resources r ON r.id = n.id WINDOW newer AS (ORDER BY r.id DESC)
        )
        SELECT {COLUMNS}, m.role, m.more FROM measured m JOIN resources r ON r.id = m.id
        WHERE m.place <= $3 AND (m.bytes <= $4 OR m.place = 1) ORDER BY r.id DESC
        """,
        viewer,
        before,
        size,
        PAGE_BYTES,
    )
    return Page([resource_of(row, row["role"]) for row in rows], more=bool(rows) and rows[-1]["more"])


async def hold_owner(tx: Transaction, owner: UUID) -> None:
    """Makes sure that `owner` gets no other resource until the transaction ends, but by this one."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"resources of {owner}")


async def owns(tx: Transaction, owner: UUID, number: int) -> bool:
    """Whether `owner` has `number` resources. The owner is held (`hold_owner`)."""
    # Of two at once, the second has waited, and counts in a statement of its own what the first has made.
    return bool(
        await tx.fetchval("SELECT EXISTS (SELECT FROM resources WHERE owner_id = $1 OFFSET $2)", owner, number - 1)
    )


async def lock_owned(tx: Transaction, owner: UUID, limit: int) -> list[Resource]:
    """Up to `limit` resources of an owner, held still until the transaction ends."""
    rows = await tx.fetch(
        f"SELECT {COLUMNS} FROM resources r WHERE owner_id = $1 ORDER BY id LIMIT $2 FOR UPDATE", owner, limit
    )
    return [resource_of(row, Role.OWNER) for row in rows]


async def change_owner(tx: Transaction, resource: Resource) -> None:
    """Writes the new owner of a locked resource."""
    await tx.execute(
        "UPDATE resources SET owner_id = $2, version = $3, update_time = $4 WHERE id = $1",
        resource.id,
        resource.owner,
        resource.version,
        resource.updated_at,
    )


async def mark_erased(tx: Transaction, user: UUID) -> None:
    """Notes that a user was deleted."""
    await tx.execute("INSERT INTO erased_users (id) VALUES ($1) ON CONFLICT DO NOTHING", user)


async def is_erased(connection: Database | Transaction, user: UUID) -> bool:
    """Whether a user was deleted."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM erased_users WHERE id = $1)", user))


async def forget_requests(tx: Transaction, caller: UUID) -> None:
    """Forgets the request ids of a caller."""
    await tx.execute("DELETE FROM creations WHERE caller_id = $1", caller)


async def insert(tx: Transaction, resource: Resource) -> None:
    """Writes a new resource."""
    await tx.execute(
        "INSERT INTO resources (id, owner_id, display_name, content, version, create_time, "
        "update_time) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        resource.id,
        resource.owner,
        resource.draft.display_name,
        resource.draft.content,
        resource.version,
        resource.created_at,
        resource.updated_at,
    )


async def update(tx: Transaction, resource: Resource) -> None:
    """Writes the new state of a locked resource."""
    await tx.execute(
        "UPDATE resources SET display_name = $2, content = $3, version = $4, update_time = $5 WHERE id = $1",
        resource.id,
        resource.draft.display_name,
        resource.draft.content,
        resource.version,
        resource.updated_at,
    )


async def delete(tx: Transaction, resource_id: UUID) -> None:
    """Deletes a resource. No one sees it any more; its shares are the log's to delete, when it has told of it."""
    await tx.execute("DELETE FROM resources WHERE id = $1", resource_id)


async def claim_request(
    tx: Transaction, caller: UUID, request_id: UUID, creation: Creation, expired: datetime
) -> Creation | None:
    """Takes a request id for `creation`; one older than `expired` may be taken again.

    Returns None, or what the id has made already.

    Of two at once, the second waits here until the first has committed.
    """
    taken = await tx.fetchval(
        """
        INSERT INTO creations (caller_id, request_id, digest, resource_id, create_time) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (caller_id, request_id) DO UPDATE
            SET digest = excluded.digest, resource_id = excluded.resource_id, create_time = excluded.create_time
            WHERE creations.create_time < $6
        RETURNING true
        """,
        caller,
        request_id,
        creation.digest,
        creation.resource,
        creation.created_at,
        expired,
    )
    if taken:
        return None
    row = await tx.fetchrow(
        "SELECT digest, resource_id, create_time FROM creations WHERE caller_id = $1 AND request_id = $2",
        caller,
        request_id,
    )
    # ON CONFLICT DO UPDATE locks the row even where its WHERE keeps it from updating, so no purge takes it away in
    # between.
    assert row is not None
    return Creation(row["digest"], row["resource_id"], row["create_time"])


async def purge_requests(database: Database, expired: datetime, limit: int) -> int:
    """Forgets up to `limit` request ids from before `expired`. Returns how many."""
    tag = await database.execute(
        """
        DELETE FROM creations WHERE (caller_id, request_id) IN (
            SELECT caller_id, request_id FROM creations WHERE create_time < $1 ORDER BY create_time LIMIT $2
        )
        """,
        expired,
        limit,
    )
    return int(tag.rpartition(" ")[2])
