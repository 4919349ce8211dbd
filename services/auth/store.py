"""Auth's tables in SQL. Every method runs in the transaction that it is given."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import asyncpg

from mesh.database import Transaction
from services.auth.account import SIGN_UP_LIFETIME, Account, SignUp
from services.auth.throttle import Attempts

_SIGN_UP = "user_id, request_id, email, display_name, password_hash, code_hash, code_expire_time, code_attempts, create_time"


class Accounts:
    """People whose address is verified."""

    async def by_email(self, tx: Transaction, email: str) -> Account | None:
        """The account of an address."""
        row = await tx.fetchrow("SELECT user_id, email, password_hash, disabled FROM accounts WHERE email = $1", email)
        return Account(**row) if row else None

    async def by_id(self, tx: Transaction, user_id: uuid.UUID) -> Account | None:
        """The account of a user."""
        row = await tx.fetchrow("SELECT user_id, email, password_hash, disabled FROM accounts WHERE user_id = $1", user_id)
        return Account(**row) if row else None

    async def add(self, tx: Transaction, sign_up: SignUp, now: datetime) -> bool:
        """Makes an account of a sign-up. False when the address has one already."""
        return bool(
            await tx.fetchval(
                """
                INSERT INTO accounts (user_id, email, password_hash, create_time) VALUES ($1, $2, $3, $4)
                ON CONFLICT DO NOTHING RETURNING true
                """,
                sign_up.user_id,
                sign_up.email,
                sign_up.password_hash,
                now,
            )
        )

    async def set_password_hash(self, tx: Transaction, account: Account, password_hash: str) -> None:
        """Replaces the hash, unless the password was changed in the meantime."""
        await tx.execute(
            "UPDATE accounts SET password_hash = $3 WHERE user_id = $1 AND password_hash = $2", account.user_id, account.password_hash, password_hash
        )

    async def set_status(self, tx: Transaction, user_id: uuid.UUID, *, disabled: bool, version: int) -> bool:
        """Sets the status, if the version is newer than the known one. Returns whether the status is another one now."""
        row = await tx.fetchrow("SELECT disabled, status_version FROM accounts WHERE user_id = $1 FOR UPDATE", user_id)
        if row is None or row["status_version"] >= version:
            return False
        await tx.execute("UPDATE accounts SET disabled = $2, status_version = $3 WHERE user_id = $1", user_id, disabled, version)
        return bool(row["disabled"]) is not disabled

    async def delete(self, tx: Transaction, user_id: uuid.UUID) -> bool:
        """Erases an account and every sign-up of its address. Returns whether there was one."""
        email = await tx.fetchval("DELETE FROM accounts WHERE user_id = $1 RETURNING email", user_id)
        await tx.execute("DELETE FROM sign_ups WHERE email = $1 OR user_id = $2", email, user_id)
        return email is not None

    async def is_familiar(self, tx: Transaction, sources: Sequence[bytes]) -> bool:
        """Whether somebody has signed in from one of the sources, which are digests of address and network or installation."""
        return bool(await tx.fetchval("SELECT EXISTS (SELECT FROM familiar_sources WHERE key = ANY($1::bytea[]))", sources))

    async def was_used(self, tx: Transaction, user_id: uuid.UUID) -> bool:
        """Whether a user has signed in from anywhere that is remembered."""
        return bool(await tx.fetchval("SELECT EXISTS (SELECT FROM familiar_sources WHERE user_id = $1)", user_id))

    async def make_familiar(self, tx: Transaction, user_id: uuid.UUID, sources: Sequence[bytes], now: datetime) -> None:
        """Remembers sources of a sign-in that worked."""
        await tx.execute(
            """
            INSERT INTO familiar_sources (key, user_id, last_time) SELECT key, $2, $3 FROM unnest($1::bytea[]) AS key
            ON CONFLICT (key) DO UPDATE SET user_id = $2, last_time = $3
            """,
            sorted(sources),
            user_id,
            now,
        )


class SignUps:
    """Wishes for accounts, of the last 24 hours."""

    async def by_request(self, tx: Transaction, request_id: uuid.UUID) -> SignUp | None:
        """The sign-up that was made with this `request_id`, for as long as it is kept: 24 hours, until the next sweep."""
        row = await tx.fetchrow(f"SELECT {_SIGN_UP} FROM sign_ups WHERE request_id = $1", request_id)
        return SignUp(**row) if row else None

    async def newest(self, tx: Transaction, email: str, now: datetime) -> SignUp | None:
        """The latest sign-up of an address that has not become an account, whether or not it can."""
        row = await tx.fetchrow(
            f"""
            SELECT {_SIGN_UP} FROM sign_ups WHERE email = $1 AND create_time > $2 AND verify_time IS NULL
            ORDER BY create_time DESC, user_id DESC LIMIT 1
            """,
            email,
            now - SIGN_UP_LIFETIME,
        )
        return SignUp(**row) if row else None

    async def lock_open(self, tx: Transaction, email: str, now: datetime) -> list[SignUp]:
        """The sign-ups of an address that can become an account, newest first, locked until the transaction ends."""
        rows = await tx.fetch(
            f"""
            SELECT {_SIGN_UP} FROM sign_ups WHERE email = $1 AND create_time > $2 AND code_hash IS NOT NULL
            ORDER BY create_time DESC, user_id DESC FOR UPDATE
            """,
            email,
            now - SIGN_UP_LIFETIME,
        )
        return [SignUp(**row) for row in rows]

    async def by_id(self, tx: Transaction, user_id: uuid.UUID) -> Account | None:
        """The account of a user."""
        row = await tx.fetchrow("SELECT user_id, email, password_hash, disabled FROM accounts WHERE user_id = $1", user_id)
        return Account(**row) if row else None

    async def add(self, tx: Transaction, sign_up: SignUp) -> bool:
        """Writes a sign-up. False when its `request_id` is taken, by a call that ran at the same time."""
        return bool(
            await tx.fetchval(
                f"INSERT INTO sign_ups ({_SIGN_UP}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (request_id) DO NOTHING RETURNING true",
                sign_up.user_id,
                sign_up.request_id,
                sign_up.email,
                sign_up.display_name,
                sign_up.password_hash,
                sign_up.code_hash,
                sign_up.code_expire_time,
                sign_up.code_attempts,
                sign_up.create_time,
            )
        )

    async def set_code(self, tx: Transaction, sign_up: SignUp, code_hash: bytes, expire_time: datetime) -> None:
        """Replaces the code; the earlier one is void."""
        await tx.execute(
            "UPDATE sign_ups SET code_hash = $2, code_expire_time = $3, code_attempts = 0 WHERE user_id = $1", sign_up.user_id, code_hash, expire_time
        )

    async def count_wrong_code(self, tx: Transaction, sign_ups: Sequence[SignUp]) -> None:
        """Counts a wrong code against each."""
        await tx.execute("UPDATE sign_ups SET code_attempts = code_attempts + 1 WHERE user_id = ANY($1::uuid[])", [item.user_id for item in sign_ups])

    async def close(self, tx: Transaction, sign_ups: Sequence[SignUp]) -> None:
        """Voids codes for good; the rows stay until their `request_id` may be forgotten."""
        await tx.execute("UPDATE sign_ups SET code_hash = NULL WHERE user_id = ANY($1::uuid[])", [item.user_id for item in sign_ups])

    async def mark_verified(self, tx: Transaction, sign_up: SignUp, now: datetime) -> None:
        """Notes that a sign-up has become an account."""
        await tx.execute("UPDATE sign_ups SET verify_time = $2 WHERE user_id = $1", sign_up.user_id, now)


class AttemptCounts:
    """How often was tried what."""

    async def lock(self, tx: Transaction, keys: Collection[bytes], now: datetime) -> dict[bytes, Attempts | None]:
        """The counts under some keys, locked until the transaction ends: two attempts at once are two attempts."""
        # Rows that don't exist can't be locked. In the order of the keys, so that two transactions never wait for each other.
        rows = await tx.fetch(
            """
            INSERT INTO attempts (key, count, last_time) SELECT key, 0, $2 FROM unnest($1::bytea[]) AS key
            ON CONFLICT (key) DO UPDATE SET count = attempts.count
            RETURNING key, count, last_time, blocked_until
            """,
            sorted(keys),
            now,
        )
        return {row["key"]: _attempts(row) for row in rows}

    async def save(self, tx: Transaction, counts: Mapping[bytes, Attempts]) -> None:
        """Writes counts that were locked."""
        await tx.executemany(
            "UPDATE attempts SET count = $2, last_time = $3, blocked_until = $4 WHERE key = $1",
            [(key, item.count, item.last_time, item.blocked_until) for key, item in counts.items()],
        )

    async def clear(self, tx: Transaction, key: bytes) -> None:
        """Forgets what was counted under a key."""
        await tx.execute("DELETE FROM attempts WHERE key = $1", key)

    async def take_back(self, tx: Transaction, key: bytes) -> None:
        """Takes one attempt back: it was none."""
        await tx.execute("UPDATE attempts SET count = greatest(count - 1, 0), blocked_until = NULL WHERE key = $1", key)


class Upkeep:
    """What is deleted when its time is over."""

    async def sweep(self, tx: Transaction, limit: int, *, sign_ups: datetime, attempts: datetime, familiar: datetime) -> bool:
        """Deletes what is older than the given times, at most `limit` rows of each kind. Returns whether there may be more."""
        tags = [
            await tx.execute(
                f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {age} < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
                before,
                limit,
            )
            for table, age, before in (
                ("sign_ups", "create_time", sign_ups),
                ("attempts", "last_time", attempts),
                ("familiar_sources", "last_time", familiar),
            )
        ]
        return f"DELETE {limit}" in tags


def _attempts(row: asyncpg.Record) -> Attempts | None:
    return Attempts(row["count"], row["last_time"], row["blocked_until"]) if row["count"] else None
