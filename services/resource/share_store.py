"""The SQL of shares."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from mesh.resources.name import USER
from mesh.storage.database import Database, Transaction
from services.resource.resource import Role
from services.resource.share import Grantee, Share

_COLUMNS = "id, resource_id, grantee, email, holder_id, role, create_time"


def _share_of(row: asyncpg.Record) -> Share:
    email = row["email"]
    return Share(
        id=row["id"],
        resource=row["resource_id"],
        grantee=Grantee(email=email) if email is not None else Grantee(user=UUID(USER.id(row["grantee"]))),
        holder=row["holder_id"],
        role=Role(row["role"]),
        created_at=row["create_time"],
    )


async def find(connection: Database | Transaction, resource_id: UUID, grantee: Grantee) -> Share | None:
    """The share of a resource that names `grantee`."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM shares WHERE resource_id = $1 AND grantee = $2", resource_id, grantee.key
    )
    return _share_of(row) if row else None


async def count(tx: Transaction, resource_id: UUID) -> int:
    """How many shares a resource has."""
    return int(await tx.fetchval("SELECT count(*) FROM shares WHERE resource_id = $1", resource_id))


async def put(tx: Transaction, share: Share, lookup_time: datetime | None) -> None:
    """Writes a share, or its new role and spelling.

    Args:
        tx: The transaction.
        share: As it is to be.
        lookup_time: When the lookups (`share_claims`) take up a share without a holder. None: nothing is to be looked
            up.
    """
    await tx.execute(
        """
        INSERT INTO shares (id, resource_id, grantee, email, holder_id, role, create_time, lookup_time)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (id) DO UPDATE SET role = excluded.role, email = excluded.email, lookup_time = excluded.lookup_time
        """,
        share.id,
        share.resource,
        share.grantee.key,
        share.grantee.email,
        share.holder,
        share.role,
        share.created_at,
        lookup_time,
    )


async def page(database: Database, resource_id: UUID, after: UUID, size: int) -> list[Share]:
    """The `size` oldest shares of a resource with ids above `after`."""
    rows = await database.fetch(
        f"SELECT {_COLUMNS} FROM shares WHERE resource_id = $1 AND id > $2 ORDER BY id LIMIT $3",
        resource_id,
        after,
        size,
    )
    return [_share_of(row) for row in rows]


async def page_of(database: Database, holder: UUID, name: str, after: UUID, size: int) -> list[Share]:
    """The `size` oldest shares that `holder` has, or that go by `name` and have no holder, with ids above `after`."""
    rows = await database.fetch(
        f"""
        SELECT {_COLUMNS} FROM shares WHERE id > $3 AND (holder_id = $1 OR grantee = $2 AND holder_id IS NULL)
        ORDER BY id LIMIT $4
        """,
        holder,
        name,
        after,
        size,
    )
    return [_share_of(row) for row in rows]


async def remove(tx: Transaction, resource_id: UUID, grantee: Grantee) -> list[Share]:
    """Deletes the share that names `grantee`. Returns it, if there was one."""
    rows = await tx.fetch(
        f"DELETE FROM shares WHERE resource_id = $1 AND grantee = $2 RETURNING {_COLUMNS}", resource_id, grantee.key
    )
    return [_share_of(row) for row in rows]


async def remove_held(tx: Transaction, resource_id: UUID, holder: UUID) -> list[Share]:
    """Deletes the shares that `holder` has, whatever they name. Returns them."""
    rows = await tx.fetch(
        f"DELETE FROM shares WHERE resource_id = $1 AND holder_id = $2 RETURNING {_COLUMNS}", resource_id, holder
    )
    return [_share_of(row) for row in rows]


async def remove_of(tx: Transaction, holder: UUID, names: Sequence[str], limit: int) -> list[Share]:
    """Deletes up to `limit` shares that `holder` has, or that go by one of these names and have no holder."""
    rows = await tx.fetch(
        f"""
        DELETE FROM shares WHERE id IN (
            (SELECT id FROM shares WHERE holder_id = $1 LIMIT $3)
            UNION (SELECT id FROM shares WHERE grantee = ANY($2::text[]) AND holder_id IS NULL LIMIT $3)
        ) RETURNING {_COLUMNS}
        """,
        holder,
        names,
        limit,
    )
    return [_share_of(row) for row in rows]


async def settle(connection: Database | Transaction, share_id: UUID, holder: UUID | None) -> bool:
    """Ends the lookup of a share with what it found. Returns whether the share was without a holder and has one now."""
    row = await connection.fetchrow(
        "UPDATE shares SET holder_id = $2, lookup_time = NULL WHERE id = $1 AND holder_id IS NULL RETURNING holder_id",
        share_id,
        holder,
    )
    return row is not None and row["holder_id"] is not None


async def unclaimed(database: Database, grantees: Sequence[str], limit: int) -> list[Share]:
    """Shares of these names that have no holder, of resources that there are."""
    rows = await database.fetch(
        f"""
        SELECT {_COLUMNS} FROM shares WHERE grantee = ANY($1::text[]) AND holder_id IS NULL
        AND EXISTS (SELECT FROM resources WHERE resources.id = shares.resource_id) ORDER BY id LIMIT $2
        """,
        grantees,
        limit,
    )
    return [_share_of(row) for row in rows]


async def take_lookups(database: Database, now: datetime, again: datetime, limit: int) -> list[Share]:
    """Shares whose lookup was due at `now`. Each is left to the caller until `again`."""
    rows = await database.fetch(
        f"""
        UPDATE shares SET lookup_time = $2 WHERE id IN (
            SELECT id FROM shares WHERE lookup_time <= $1 ORDER BY lookup_time LIMIT $3 FOR UPDATE SKIP LOCKED
        ) RETURNING {_COLUMNS}
        """,
        now,
        again,
        limit,
    )
    return [_share_of(row) for row in rows]
