"""The SQL of clients and of the assertions that they used."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from asyncpg import Record

from mesh.storage.database import Database, Transaction
from services.token.clients.client import Client, ClientRecord
from services.token.sessions.store import ISSUED

_FIELDS = tuple(Client.model_fields)
_COLUMNS = ", ".join(_FIELDS)
_PLACES = ", ".join(f"${number}" for number in range(2, len(_FIELDS) + 2))


async def find_client(source: Database | Transaction, client_id: str) -> ClientRecord | None:
    """A client that was not deleted."""
    return _registered(await source.fetchrow("SELECT * FROM clients WHERE id = $1 AND delete_time IS NULL", client_id))


async def hold_client(tx: Transaction, client_id: str) -> ClientRecord | None:
    """The same, and no one changes it until the transaction ends. Any number may hold it."""
    return _registered(
        await tx.fetchrow("SELECT * FROM clients WHERE id = $1 AND delete_time IS NULL FOR SHARE", client_id)
    )


async def lock_client(tx: Transaction, client_id: str) -> ClientRecord | None:
    """The same, held by no one else: waits for those who issue tokens to it."""
    return _registered(
        await tx.fetchrow("SELECT * FROM clients WHERE id = $1 AND delete_time IS NULL FOR UPDATE", client_id)
    )


async def page_of_clients(database: Database, after: str, limit: int) -> Sequence[ClientRecord]:
    """The clients by id, from behind `after`."""
    rows = await database.fetch(
        'SELECT * FROM clients WHERE id > $1 COLLATE "C" AND delete_time IS NULL ORDER BY id COLLATE "C" LIMIT $2',
        after,
        limit,
    )
    return [registered for row in rows if (registered := _registered(row))]


async def add_client(tx: Transaction, client_id: str, client: Client, *, again: bool) -> bool:
    """Writes a new client. False when there is one of that id.

    Args:
        tx: The transaction.
        client_id: Its id.
        client: What it is.
        again: Whether the id of a deleted client may be used again. Its version and `not_before` go on.
    """
    revived = ", ".join(f"{name} = EXCLUDED.{name}" for name in _FIELDS)
    row = await tx.fetchrow(
        f"""
        INSERT INTO clients (id, {_COLUMNS}) VALUES ($1, {_PLACES})
        ON CONFLICT (id) DO UPDATE SET {revived}, version = clients.version + 1, delete_time = NULL
        WHERE clients.delete_time IS NOT NULL AND ${len(_FIELDS) + 2}
        RETURNING id
        """,
        client_id,
        *_values(client),
        again,
    )
    return row is not None


async def save_client(tx: Transaction, registered: ClientRecord) -> None:
    """Writes the new state of a client that is locked."""
    changed = ", ".join(f"{name} = ${number}" for number, name in enumerate(_FIELDS, start=2))
    await tx.execute(
        f"UPDATE clients SET {changed}, version = ${len(_FIELDS) + 2}, not_before = ${len(_FIELDS) + 3} WHERE id = $1",
        registered.id,
        *_values(registered.client),
        registered.version,
        registered.not_before,
    )


async def delete_client(tx: Transaction, client_id: str, not_before: datetime, time: datetime) -> None:
    """Deletes a client that is locked, and forgets its keys."""
    await tx.execute(
        "UPDATE clients SET delete_time = $3, not_before = $2, jwks = '' WHERE id = $1", client_id, not_before, time
    )


async def end_sessions_of_client(tx: Transaction, client_id: str, time: datetime) -> tuple[int, datetime]:
    """Ends every session of a client, and says how many there were and the `iat` of their newest token.

    None is refreshed any more when this returns.
    """
    row = await tx.fetchrow(
        f"""
        WITH ended AS (
            UPDATE sessions SET end_time = $2, display_name = '', address = '', user_agent = ''
            WHERE id IN (SELECT id FROM sessions WHERE client_id = $1 AND end_time IS NULL ORDER BY id FOR UPDATE)
                AND end_time IS NULL
            RETURNING {ISSUED} AS issued
        )
        SELECT count(*) AS sessions, coalesce(max(issued), 'epoch') AS issued FROM ended
        """,
        client_id,
        time,
    )
    assert row is not None
    return row["sessions"], row["issued"]


async def is_spent(database: Database, client_id: str, token_id: str) -> bool:
    """Whether an assertion was used."""
    found = await database.fetchval(
        "SELECT true FROM client_assertions WHERE client_id = $1 AND token_id = $2", client_id, token_id
    )
    return found is True


async def spend_assertion(tx: Transaction, client_id: str, token_id: str, expire_time: datetime) -> bool:
    """Notes that an assertion was used. False when it was before: of any number of callers at once, one gets True."""
    tag = await tx.execute(
        "INSERT INTO client_assertions (client_id, token_id, expire_time) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        client_id,
        token_id,
        expire_time,
    )
    return tag == "INSERT 0 1"


def _values(client: Client) -> list[object]:
    return [sorted(value) if isinstance(value := getattr(client, name), frozenset) else value for name in _FIELDS]


def _registered(row: Record | None) -> ClientRecord | None:
    if row is None:
        return None
    # Held against the rules when it was written; a release with narrower ones must still be able to read it.
    fields: dict[str, Any] = {name: row[name] for name in _FIELDS}
    client = Client.model_construct(**fields | {"scopes": frozenset(row["scopes"])})
    return ClientRecord(row["id"], client, row["version"], row["not_before"])
