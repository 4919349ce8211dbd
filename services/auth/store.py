"""Auth's tables in SQL. Every method runs in the transaction that it is given."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

from mesh.storage.database import Transaction
from services.auth import throttle
from services.auth.account import SIGN_UP_LIFETIME, Account, SentCode, SignUp

FAMILIAR_SOURCES = 100
"""Networks and installations that are remembered of one user."""

_ACCOUNT = """
    a.user_id, a.email, a.password_hash, a.disabled, t.enable_time IS NOT NULL AS second_factor
    FROM accounts a LEFT JOIN totp t ON t.user_id = a.user_id
"""
_SIGN_UP = "user_id, request_id, email, display_name, password_hash, code_attempts, create_time"
_OPEN = "create_time > {since} AND verify_time IS NULL"
"""Of a sign-up that has not become an account, whether or not it can."""


SWEEP = """
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {table} WHERE {age} < $1 ORDER BY {age} LIMIT $2 FOR UPDATE SKIP LOCKED
))
"""
"""In the order of the index, whatever the planner believes of a time that it does not know: an idle pass reads
nothing."""
SWEPT = {
    "sign_ups": "create_time",
    "codes": "expire_time",
    "reset_codes": "expire_time",
    "challenges": "expire_time",
    "provider_demands": "expire_time",
    "spent": "expire_time",
    "buckets": "full_time",
    "familiar_sources": "last_time",
}
"""Tables that are swept, and the age that they are swept by."""


class Accounts:
    """People whose address is verified."""

    async def by_email(self, tx: Transaction, email: str) -> Account | None:
        """The account of an address."""
        row = await tx.fetchrow(f"SELECT {_ACCOUNT} WHERE email = $1", email)
        return Account(**row) if row else None

    async def by_id(self, tx: Transaction, user_id: uuid.UUID) -> Account | None:
        """The account of a user."""
        row = await tx.fetchrow(f"SELECT {_ACCOUNT} WHERE a.user_id = $1", user_id)
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

    async def set_password_hash(self, tx: Transaction, account: Account, password_hash: str) -> bool:
        """Replaces the hash, unless the password was changed in the meantime. Returns whether it was replaced."""
        replaced = await tx.fetchval(
            "UPDATE accounts SET password_hash = $3 WHERE user_id = $1 AND password_hash = $2 RETURNING true",
            account.user_id,
            account.password_hash,
            password_hash,
        )
        return bool(replaced)

    async def reset_password_hash(self, tx: Transaction, user_id: uuid.UUID, password_hash: str) -> None:
        """Replaces the hash, whatever it was."""
        await tx.execute("UPDATE accounts SET password_hash = $2 WHERE user_id = $1", user_id, password_hash)

    async def set_status(self, tx: Transaction, user_id: uuid.UUID, *, disabled: bool, version: int) -> bool:
        """Sets the status, if the version is newer than the known one.

        Returns whether the status is another one now.
        """
        row = await tx.fetchrow("SELECT disabled, status_version FROM accounts WHERE user_id = $1 FOR UPDATE", user_id)
        if row is None or row["status_version"] >= version:
            return False
        await tx.execute(
            "UPDATE accounts SET disabled = $2, status_version = $3 WHERE user_id = $1", user_id, disabled, version
        )
        return bool(row["disabled"]) is not disabled

    async def delete(self, tx: Transaction, user_id: uuid.UUID) -> str | None:
        """Erases an account and every sign-up of its address. Returns the address, if there was one."""
        email = await tx.fetchval("DELETE FROM accounts WHERE user_id = $1 RETURNING email", user_id)
        await tx.execute("DELETE FROM sign_ups WHERE email = $1 OR user_id = $2", email, user_id)
        return None if email is None else str(email)

    async def known_devices(self, tx: Transaction, sources: Sequence[bytes]) -> frozenset[bytes]:
        """Those of the sources from which a person has signed in before.

        A source is the digest of an address with a network or an installation.
        """
        rows = await tx.fetch("SELECT key FROM familiar_sources WHERE key = ANY($1::bytea[])", sources)
        return frozenset(row["key"] for row in rows)

    async def was_used(self, tx: Transaction, user_id: uuid.UUID) -> bool:
        """Whether a user has signed in from anywhere that is remembered."""
        return bool(await tx.fetchval("SELECT EXISTS (SELECT FROM familiar_sources WHERE user_id = $1)", user_id))

    async def make_familiar(self, tx: Transaction, user_id: uuid.UUID, sources: Sequence[bytes], now: datetime) -> None:
        """Remembers sources of a sign-in that worked; of each user the latest."""
        await tx.execute(
            """
            INSERT INTO familiar_sources (key, user_id, last_time) SELECT key, $2, $3 FROM unnest($1::bytea[]) AS key
            ON CONFLICT (key) DO UPDATE SET user_id = $2, last_time = $3
            """,
            sorted(sources),
            user_id,
            now,
        )
        await tx.execute(
            """
            DELETE FROM familiar_sources WHERE key IN (
                SELECT key FROM familiar_sources WHERE user_id = $1 ORDER BY last_time DESC, key OFFSET $2
                    FOR UPDATE SKIP LOCKED
            )
            """,
            user_id,
            FAMILIAR_SOURCES,
        )


class SignUps:
    """Wishes for accounts, of the last 24 hours."""

    async def salt(self, tx: Transaction, email: str) -> bytes:
        """The salt of the codes that are sent to an address and of its sign-ups' passwords.

        One for each address, and of this database alone.
        """
        salt: bytes = await tx.fetchval(
            "SELECT substring(sha256(secret || convert_to($1, 'UTF8')) FOR 16) FROM salt_secret", email
        )
        return salt

    async def by_request(self, tx: Transaction, request_id: uuid.UUID) -> SignUp | None:
        """The sign-up that was made with this `request_id`, for as long as it is kept.

        24 hours, until the next sweep.
        """
        row = await tx.fetchrow(f"SELECT {_SIGN_UP} FROM sign_ups WHERE request_id = $1", request_id)
        return SignUp(**row) if row else None

    async def by_password(self, tx: Transaction, email: str, password_hash: str, now: datetime) -> SignUp | None:
        """The latest sign-up of an address with this password that has not become an account, whether or not it can."""
        row = await tx.fetchrow(
            f"""
            SELECT {_SIGN_UP} FROM sign_ups WHERE email = $1 AND password_hash = $2 AND {_OPEN.format(since="$3")}
            ORDER BY create_time DESC, user_id DESC LIMIT 1
            """,
            email,
            password_hash,
            now - SIGN_UP_LIFETIME,
        )
        return SignUp(**row) if row else None

    async def newest(self, tx: Transaction, email: str, now: datetime) -> SignUp | None:
        """The latest sign-up of an address that has not become an account, whether or not it can."""
        row = await tx.fetchrow(
            f"SELECT {_SIGN_UP} FROM sign_ups WHERE email = $1 AND {_OPEN.format(since='$2')} ORDER "
            f"BY create_time DESC, user_id DESC LIMIT 1",
            email,
            now - SIGN_UP_LIFETIME,
        )
        return SignUp(**row) if row else None

    async def has_others(self, tx: Transaction, sign_up: SignUp, now: datetime) -> bool:
        """Whether the address has another sign-up that has not become an account."""
        return bool(
            await tx.fetchval(
                f"SELECT EXISTS (SELECT FROM sign_ups WHERE email = $1 AND user_id <> $2 AND "
                f"{_OPEN.format(since='$3')})",
                sign_up.email,
                sign_up.user_id,
                now - SIGN_UP_LIFETIME,
            )
        )

    async def add(self, tx: Transaction, sign_up: SignUp) -> bool:
        """Writes a sign-up. False when its `request_id` is taken, by a call that ran at the same time."""
        return bool(
            await tx.fetchval(
                f"INSERT INTO sign_ups ({_SIGN_UP}) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT "
                f"(request_id) DO NOTHING RETURNING true",
                sign_up.user_id,
                sign_up.request_id,
                sign_up.email,
                sign_up.display_name,
                sign_up.password_hash,
                sign_up.code_attempts,
                sign_up.create_time,
            )
        )

    async def attempt_code(self, tx: Transaction, email: str, password_hash: str, now: datetime) -> list[SignUp]:
        """Counts a code that came with a password against each sign-up of the address that has it.

        Returns them, newest first, locked until the transaction ends: a hundred attempts at once are a hundred.
        """
        rows = await tx.fetch(
            f"""
            WITH meant AS MATERIALIZED (
                SELECT user_id AS id FROM sign_ups WHERE email = $1 AND password_hash = $2
                    AND {_OPEN.format(since="$3")} ORDER BY user_id FOR UPDATE
            )
            UPDATE sign_ups SET code_attempts = code_attempts + 1 FROM meant WHERE user_id = meant.id
                RETURNING {_SIGN_UP}
            """,
            email,
            password_hash,
            now - SIGN_UP_LIFETIME,
        )
        return sorted((SignUp(**row) for row in rows), key=lambda item: (item.create_time, item.user_id), reverse=True)

    async def lock(self, tx: Transaction, user_id: uuid.UUID, now: datetime) -> SignUp | None:
        """A sign-up that has not become an account, locked until the transaction ends."""
        row = await tx.fetchrow(
            f"SELECT {_SIGN_UP} FROM sign_ups WHERE user_id = $1 AND {_OPEN.format(since='$2')} FOR UPDATE",
            user_id,
            now - SIGN_UP_LIFETIME,
        )
        return SignUp(**row) if row else None

    async def mark_verified(self, tx: Transaction, sign_up: SignUp, now: datetime) -> None:
        """Notes that a sign-up has become an account, and voids every code that was sent to its address."""
        await tx.execute("UPDATE sign_ups SET verify_time = $2 WHERE user_id = $1", sign_up.user_id, now)
        await tx.execute("DELETE FROM codes WHERE email = $1", sign_up.email)

    async def add_code(self, tx: Transaction, code: SentCode) -> None:
        """Writes a code that is sent.

        Its sign-up's attempts begin anew; earlier codes stay good, or a stranger could void them by asking for one.
        """
        await tx.execute("UPDATE sign_ups SET code_attempts = 0 WHERE user_id = $1", code.user_id)
        await tx.execute(
            "INSERT INTO codes (email, digest, rest, user_id, expire_time) VALUES ($1, $2, $3, $4, $5)",
            code.email,
            code.digest,
            code.rest,
            code.user_id,
            code.expire_time,
        )

    async def codes(self, tx: Transaction, email: str, digest: bytes, now: datetime) -> list[SentCode]:
        """The codes that were sent to an address, begin with the digits of this digest, and have not expired."""
        rows = await tx.fetch(
            "SELECT email, digest, rest, user_id, expire_time FROM codes WHERE email = $1 AND "
            "digest = $2 AND expire_time > $3",
            email,
            digest,
            now,
        )
        return [SentCode(**row) for row in rows]


class ResetCodes:
    """Codes that reset a password, until they are spent or expire."""

    async def add(self, tx: Transaction, user_id: uuid.UUID, digest: bytes, expire_time: datetime) -> None:
        """Writes a code that is sent. Earlier ones stay valid, or a stranger could void them by asking for one."""
        await tx.execute(
            "INSERT INTO reset_codes (user_id, digest, expire_time) VALUES ($1, $2, $3)", user_id, digest, expire_time
        )

    async def spend(self, tx: Transaction, user_id: uuid.UUID, digest: bytes, now: datetime) -> bool:
        """Uses a code up. Of two attempts at once one finds it. Returns whether it was there and had not expired."""
        spent = await tx.fetchval(
            "DELETE FROM reset_codes WHERE user_id = $1 AND digest = $2 AND expire_time > $3 RETURNING true",
            user_id,
            digest,
            now,
        )
        return bool(spent)

    async def any_live(self, tx: Transaction, user_id: uuid.UUID, now: datetime) -> bool:
        """Whether a user awaits a code."""
        return bool(
            await tx.fetchval(
                "SELECT EXISTS (SELECT FROM reset_codes WHERE user_id = $1 AND expire_time > $2)", user_id, now
            )
        )

    async def delete(self, tx: Transaction, user_id: uuid.UUID) -> None:
        """Voids the codes of a user."""
        await tx.execute("DELETE FROM reset_codes WHERE user_id = $1", user_id)


class Spent:
    """What works once and was used, until it would have expired: ceremonies of passkeys, and ID tokens."""

    async def spend(self, tx: Transaction, digest: bytes, expire_time: datetime) -> bool:
        """Uses something up. False when it was used before; of two at once one succeeds."""
        spent = await tx.fetchval(
            "INSERT INTO spent (digest, expire_time) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true",
            digest,
            expire_time,
        )
        return bool(spent)


class Buckets:
    """The token buckets of `throttle`. Rows, so that limits outlive the process and hold for all of them together."""

    async def take(self, tx: Transaction, limits: throttle.Limits, now: datetime) -> dict[bytes, datetime] | timedelta:
        """Takes a try from every bucket, or says how long to wait (`throttle.take`).

        They are locked until the transaction ends: two attempts at once are two attempts.
        """
        # Rows that don't exist can't be locked. In the order of the keys, so that two transactions never wait for each
        # other.
        rows = await tx.fetch(
            """
            INSERT INTO buckets (key, full_time) SELECT key, $2 FROM unnest($1::bytea[]) AS key
            ON CONFLICT (key) DO UPDATE SET full_time = buckets.full_time RETURNING key, full_time
            """,
            sorted(limits),
            now,
        )
        taken = throttle.take(limits, {row["key"]: row["full_time"] for row in rows}, now)
        if not isinstance(taken, timedelta):
            await tx.executemany("UPDATE buckets SET full_time = $2 WHERE key = $1", list(taken.items()))
        return taken

    async def give_back(self, tx: Transaction, limits: throttle.Limits) -> None:
        """Gives back a try that was none."""
        rows = [(name, limits[name].interval) for name in sorted(limits)]
        await tx.executemany("UPDATE buckets SET full_time = full_time - $2::interval WHERE key = $1", rows)


class Retention:
    """What is deleted when its time is over."""

    async def sweep(
        self,
        tx: Transaction,
        limit: int,
        *,
        sign_ups: datetime,
        codes: datetime,
        buckets: datetime,
        known_devices: datetime,
    ) -> bool:
        """Deletes what is older than the given times, at most `limit` rows of each kind.

        Returns whether there may be more.
        """
        before = {
            "sign_ups": sign_ups,
            "codes": codes,
            "reset_codes": codes,
            "challenges": codes,
            "provider_demands": codes,
            "spent": codes,
            "buckets": buckets,
            "familiar_sources": known_devices,
        }
        tags = [
            await tx.execute(SWEEP.format(table=table, age=age), before[table], limit) for table, age in SWEPT.items()
        ]
        return f"DELETE {limit}" in tags
