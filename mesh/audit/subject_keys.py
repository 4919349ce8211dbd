"""The keys of the persons in a service's audit events, in its own database.

Deleting a person's key is what erasure from the audit trail is.

A key that was erased leaves its row behind, empty: an event that comes late, such as the one that tells of the erasure,
must not get a new key.
"""

import os
from collections.abc import Collection, Mapping

from mesh.audit.personal import KEY_BYTES
from mesh.storage.database import Database, Transaction

DAYS_KEPT = 90
"""For how many days the address of someone without a name can be read."""


async def obtain(tx: Transaction, names: Collection[str]) -> dict[str, bytes]:
    """The key of each name; made where there was none. For a person who was erased, a key that no one keeps.

    Args:
        tx: The transaction that seals with them.
        names: `users/…` or `days/…`.
    """
    wanted = sorted(set(names))
    keys = await _held(tx, wanted)
    if missing := [name for name in wanted if name not in keys]:
        await tx.execute(
            # In the order of names, so that two of these never wait for each other.
            "INSERT INTO subject_keys (subject, key) SELECT * FROM unnest($1::text[], $2::bytea[]) "
            "ORDER BY 1 ON CONFLICT DO NOTHING",
            missing,
            [os.urandom(KEY_BYTES) for _ in missing],
        )
        # A rival's key may have won. Read in a statement of its own: this one sees it.
        keys |= await _held(tx, missing)
    return {name: keys[name] or os.urandom(KEY_BYTES) for name in wanted}


async def forget_days(database: Database) -> None:
    """Throws keys of days away whose time is over, forever."""
    await database.execute(
        "DELETE FROM subject_keys WHERE subject LIKE 'days/%' AND create_time < now() - make_interval(days => $1)",
        DAYS_KEPT,
    )


async def held(database: Database, names: Collection[str]) -> Mapping[str, bytes | None]:
    """What there is of these keys, for a reader; None for one that was erased."""
    return await _held(database, sorted(set(names)))


async def erase(tx: Transaction, subject: str) -> bool:
    """Makes everything personal about `subject` (`users/…`) in this service's audit events unreadable, forever.

    May be repeated. Returns whether it was not erased before.

    Copies in backups and in PostgreSQL's write-ahead log live as long as those are kept.
    """
    erased = await tx.fetchval(
        """
        INSERT INTO subject_keys (subject, key, erase_time) VALUES ($1, NULL, now())
        ON CONFLICT (subject) DO UPDATE SET key = NULL, erase_time = now() WHERE subject_keys.erase_time IS NULL
        RETURNING true
        """,
        subject,
    )
    return bool(erased)


async def _held(connection: Transaction | Database, names: list[str]) -> dict[str, bytes | None]:
    rows = await connection.fetch("SELECT subject, key FROM subject_keys WHERE subject = ANY($1::text[])", names)
    return {row["subject"]: row["key"] for row in rows}
