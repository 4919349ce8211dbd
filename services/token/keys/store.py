"""The SQL of signing keys."""

import json
from collections.abc import Sequence
from datetime import datetime

from asyncpg import Record

from mesh.storage.database import Database, Transaction
from services.token.keys.key import SigningKey
from services.token.keys.schedule import RotationSchedule

_ALL = "SELECT * FROM signing_keys ORDER BY publish_time DESC, key_id"


class KeyStore:
    """Reads and writes keys. Whatever changes them is in a transaction that has called `lock`."""

    def __init__(self, database: Database) -> None:
        """Initializes the instance.

        Args:
            database: Token's own.
        """
        self._database = database

    async def all(self) -> list[SigningKey]:
        """Every key that is not forgotten yet, newest first."""
        return _keys(await self._database.fetch(_ALL))

    async def lock(self, tx: Transaction) -> list[SigningKey]:
        """The same, and no one else changes any until the transaction ends."""
        await tx.fetchrow("SELECT 1 FROM signing_key_ring FOR UPDATE")
        return _keys(await tx.fetch(_ALL))

    async def note_pace(self, pace: RotationSchedule) -> None:
        """Writes down by which pace the running processes go, for the commands that run beside them."""
        await self._database.execute(
            "UPDATE signing_key_ring SET lead = $1, period = $2 WHERE (lead, period) IS DISTINCT FROM ($1, $2)",
            pace.lead,
            pace.period,
        )

    async def pace(self) -> RotationSchedule | None:
        """By which pace they go. None when none has run yet."""
        row = await self._database.fetchrow("SELECT lead, period FROM signing_key_ring WHERE lead IS NOT NULL")
        return RotationSchedule(row["lead"], row["period"]) if row else None

    async def publish(self, tx: Transaction, key: SigningKey) -> None:
        """Adds a key."""
        await tx.execute(
            "INSERT INTO signing_keys (key_id, algorithm, public_jwk, custody, material, "
            "publish_time) VALUES ($1, $2, $3, $4, $5, $6)",
            key.key_id,
            key.algorithm,
            json.dumps(dict(key.public_jwk)),
            key.custody,
            key.material,
            key.publish_time,
        )

    async def order(self, tx: Transaction, key_id: str) -> None:
        """Has a published key take over as soon as that is safe."""
        await tx.execute("UPDATE signing_keys SET ordered = true WHERE key_id = $1", key_id)

    async def activate(self, tx: Transaction, key_id: str, time: datetime) -> None:
        """A published key signs from now on. The one before was retired or revoked in the same transaction."""
        await tx.execute("UPDATE signing_keys SET active_time = $2 WHERE key_id = $1", key_id, time)

    async def retire(self, tx: Transaction, key_id: str, time: datetime, gone_time: datetime) -> None:
        """An active key signs no more."""
        await tx.execute(
            "UPDATE signing_keys SET retire_time = $2, gone_time = $3 WHERE key_id = $1", key_id, time, gone_time
        )

    async def revoke(self, tx: Transaction, key_id: str, time: datetime, gone_time: datetime) -> None:
        """A key is out of the JWKS at once."""
        await tx.execute(
            "UPDATE signing_keys SET revoke_time = $2, gone_time = $3 WHERE key_id = $1", key_id, time, gone_time
        )

    async def erase(self, tx: Transaction, key_id: str) -> None:
        """A key has no private part any more."""
        await tx.execute("UPDATE signing_keys SET material = NULL WHERE key_id = $1", key_id)

    async def remove(self, tx: Transaction, key_id: str) -> None:
        """Forgets a key."""
        await tx.execute("DELETE FROM signing_keys WHERE key_id = $1", key_id)


def _keys(rows: Sequence[Record]) -> list[SigningKey]:
    return [
        SigningKey(
            key_id=row["key_id"],
            algorithm=row["algorithm"],
            public_jwk=json.loads(row["public_jwk"]),
            custody=row["custody"],
            material=row["material"],
            publish_time=row["publish_time"],
            ordered=row["ordered"],
            active_time=row["active_time"],
            retire_time=row["retire_time"],
            gone_time=row["gone_time"],
            revoke_time=row["revoke_time"],
        )
        for row in rows
    ]
