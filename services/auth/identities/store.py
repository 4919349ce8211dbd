"""The SQL of identities. Every method runs in the transaction that it is given."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Record

from mesh.resources.name import NamePattern
from mesh.storage.database import Transaction

IDENTITY = NamePattern("users", "identities")
_COLUMNS = "id, user_id, issuer, subject, email, create_time, last_used_time"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a provider takes someone for."""

    id: uuid.UUID
    user_id: uuid.UUID
    issuer: str
    subject: str
    email: str
    """The address that the provider has verified, when it was linked; or empty."""
    create_time: datetime
    last_used_time: datetime | None

    @property
    def name(self) -> str:
        """The resource name."""
        return IDENTITY.of(self.user_id, self.id)


class Identities:
    """The table of identities."""

    async def of_user(self, tx: Transaction, user_id: uuid.UUID, *, lock: bool = False) -> list[Identity]:
        """A person's identities, oldest first. Locked, the person gets no other one until the transaction ends."""
        if lock:
            await tx.fetchval("SELECT true FROM accounts WHERE user_id = $1 FOR UPDATE", user_id)
        rows = await tx.fetch(f"SELECT {_COLUMNS} FROM identities WHERE user_id = $1 ORDER BY id", user_id)
        return [_identity(row) for row in rows]

    async def use(self, tx: Transaction, issuer: str, subject: str, now: datetime) -> Identity | None:
        """The identity of a provider's subject, noted as used now."""
        row = await tx.fetchrow(
            f"UPDATE identities SET last_used_time = $3 WHERE issuer = $1 AND subject = $2 RETURNING {_COLUMNS}",
            issuer,
            subject,
            now,
        )
        return _identity(row) if row else None

    async def add(self, tx: Transaction, identity: Identity) -> bool:
        """Links an identity. False when it is linked already, to whomever."""
        added = await tx.fetchval(
            f"INSERT INTO identities ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7) "
            "ON CONFLICT DO NOTHING RETURNING true",
            identity.id,
            identity.user_id,
            identity.issuer,
            identity.subject,
            identity.email,
            identity.create_time,
            identity.last_used_time,
        )
        return bool(added)

    async def delete(self, tx: Transaction, user_id: uuid.UUID, identity_id: uuid.UUID) -> bool:
        """Unlinks an identity of a person. Returns whether there was such a one."""
        deleted = await tx.fetchval(
            "DELETE FROM identities WHERE user_id = $1 AND id = $2 RETURNING true", user_id, identity_id
        )
        return bool(deleted)


def _identity(row: Record) -> Identity:
    return Identity(**row)
