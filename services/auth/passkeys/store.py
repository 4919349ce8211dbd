"""The SQL of passkeys. Every method runs in the transaction that it is given."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Record
from fido2.webauthn import AttestedCredentialData

from mesh.resources.name import NamePattern
from mesh.storage.database import Transaction
from services.auth.passkeys.relying_party import Credential

PASSKEY = NamePattern("users", "passkeys")

_COLUMNS = (
    "id, user_id, credential, sign_count, backup_eligible, backed_up, transports, user_handle, display_name, "
    "create_time, last_used_time"
)


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey of someone."""

    id: uuid.UUID
    user_id: uuid.UUID
    credential: Credential
    user_handle: bytes
    """Whom the authenticator takes the person for: nothing that anyone else knows."""
    display_name: str
    create_time: datetime
    last_used_time: datetime | None

    @property
    def name(self) -> str:
        """The resource name."""
        return PASSKEY.of(self.user_id, self.id)


class Passkeys:
    """The table of passkeys."""

    async def secret(self, tx: Transaction) -> bytes:
        """What ceremonies are signed with. Of this database alone, the same for all replicas."""
        secret: bytes = await tx.fetchval(
            "SELECT sha256(secret || convert_to('passkey ceremonies', 'UTF8')) FROM salt_secret"
        )
        return secret

    async def of_user(self, tx: Transaction, user_id: uuid.UUID, *, lock: bool = False) -> list[Passkey]:
        """A person's passkeys, oldest first. Locked, the person gets no other one until the transaction ends."""
        if lock:
            await tx.fetchval("SELECT true FROM accounts WHERE user_id = $1 FOR UPDATE", user_id)
        rows = await tx.fetch(f"SELECT {_COLUMNS} FROM passkeys WHERE user_id = $1 ORDER BY id", user_id)
        return [_passkey(row) for row in rows]

    async def by_credential(self, tx: Transaction, credential_id: bytes, *, lock: bool = False) -> Passkey | None:
        """The passkey with a credential id."""
        row = await tx.fetchrow(
            f"SELECT {_COLUMNS} FROM passkeys WHERE credential_id = $1 {'FOR UPDATE' if lock else ''}", credential_id
        )
        return _passkey(row) if row else None

    async def add(self, tx: Transaction, passkey: Passkey) -> bool:
        """Adds a passkey. False when the credential is registered already, by whomever."""
        credential = passkey.credential
        added = await tx.fetchval(
            f"""
            INSERT INTO passkeys (credential_id, {_COLUMNS})
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING RETURNING true
            """,
            credential.data.credential_id,
            passkey.id,
            passkey.user_id,
            bytes(credential.data),
            credential.sign_count,
            credential.backup_eligible,
            credential.backed_up,
            list(credential.transports),
            passkey.user_handle,
            passkey.display_name,
            passkey.create_time,
            passkey.last_used_time,
        )
        return bool(added)

    async def rename(
        self, tx: Transaction, user_id: uuid.UUID, passkey_id: uuid.UUID, display_name: str
    ) -> Passkey | None:
        """Renames a passkey of a person. Returns it, if there is such a one."""
        row = await tx.fetchrow(
            f"UPDATE passkeys SET display_name = $3 WHERE user_id = $1 AND id = $2 RETURNING {_COLUMNS}",
            user_id,
            passkey_id,
            display_name,
        )
        return _passkey(row) if row else None

    async def delete(self, tx: Transaction, user_id: uuid.UUID, passkey_id: uuid.UUID) -> Passkey | None:
        """Deletes a passkey of a person. Returns it, if there was such a one."""
        row = await tx.fetchrow(
            f"DELETE FROM passkeys WHERE user_id = $1 AND id = $2 RETURNING {_COLUMNS}", user_id, passkey_id
        )
        return _passkey(row) if row else None

    async def note_use(
        self, tx: Transaction, passkey: Passkey, *, sign_count: int, backed_up: bool, now: datetime
    ) -> None:
        """Writes what the authenticator said when it was used."""
        await tx.execute(
            """
            UPDATE passkeys SET sign_count = greatest(sign_count, $2), backed_up = $3, last_used_time = $4 WHERE id = $1
            """,
            passkey.id,
            sign_count,
            backed_up,
            now,
        )


def _passkey(row: Record) -> Passkey:
    return Passkey(
        id=row["id"],
        user_id=row["user_id"],
        credential=Credential(
            AttestedCredentialData(row["credential"]),
            row["sign_count"],
            row["backup_eligible"],
            row["backed_up"],
            row["transports"],
        ),
        user_handle=row["user_handle"],
        display_name=row["display_name"],
        create_time=row["create_time"],
        last_used_time=row["last_used_time"],
    )
