"""User's table in SQL."""

import uuid
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import NamedTuple

import asyncpg

from mesh.storage.database import Database, Transaction
from services.user.profile import User
from services.user.roles import ADMIN

_COLUMNS = "id, email, display_name, roles, disabled, version, create_time, update_time"


# The conditions stand in the statements, as they stand in the indexes: a parameter would hide that they are the same.
HOLDERS = f"SELECT {_COLUMNS} FROM users WHERE roles <> '{{}}' ORDER BY id"
LOCK_ADMINISTRATORS = f"SELECT id FROM users WHERE '{ADMIN}' = ANY (roles) AND NOT disabled ORDER BY id FOR UPDATE"

# Two ranges of two indexes, each read no further than the page goes. By bytes: everything with one beginning is one
# range, up to the last character that there is.
_RANGE = """
    SELECT {text} AS text, id FROM users
    WHERE {text} COLLATE "C" >= lower($1) AND {text} COLLATE "C" < lower($1) || chr(1114111)
        AND ({text} COLLATE "C", id) > ($2 COLLATE "C", $3::uuid) {and_not}
    ORDER BY {text} COLLATE "C", id LIMIT $4
"""
_ADDRESS_MATCHES = """AND NOT (email COLLATE "C" >= lower($1) AND email COLLATE "C" < lower($1) || chr(1114111))"""
SEARCH = f"""
    WITH matched AS (
        ({_RANGE.format(text="email", and_not="")})
        UNION ALL
        ({_RANGE.format(text="lower(display_name)", and_not=_ADDRESS_MATCHES)})
    )
    SELECT matched.text, {_COLUMNS} FROM matched JOIN users USING (id) ORDER BY matched.text COLLATE "C", id LIMIT $4
"""
_FIRST = uuid.UUID(int=0)


class Match(NamedTuple):
    """Where a user stands in the order of a search."""

    text: str
    """What matched: the address, or the name in lower case."""
    user_id: uuid.UUID


class Users:
    """The table of users. Reads need no transaction; what leads to a change locks the row in one."""

    async def get(self, connection: Database | Transaction, user_id: uuid.UUID) -> User | None:
        """A user by id."""
        return _user(await connection.fetchrow(f"SELECT {_COLUMNS} FROM users WHERE id = $1", user_id))

    async def by_email(self, connection: Database | Transaction, email: str) -> User | None:
        """A user by address, in lower case."""
        return _user(await connection.fetchrow(f"SELECT {_COLUMNS} FROM users WHERE email = $1", email))

    async def page(
        self, connection: Database | Transaction, *, after: uuid.UUID | None, email: str, size: int
    ) -> list[User]:
        """Users in the order of their ids, which is the order of their sign-ups.

        Args:
            connection: Where to read.
            after: The last user of the page before.
            email: Only the user with this address, in lower case; empty: all.
            size: The most users.
        """
        # A statement for each case: one plan for both reads all users to find one address.
        condition, values = ("email = $3", (email,)) if email else ("true", ())
        rows = await connection.fetch(
            f"SELECT {_COLUMNS} FROM users WHERE ($1::uuid IS NULL OR id > $1) AND {condition} ORDER BY id LIMIT $2",
            after,
            size,
            *values,
        )
        return [user for row in rows if (user := _user(row))]

    async def search(
        self, connection: Database | Transaction, query: str, *, after: Match | None, size: int
    ) -> list[tuple[Match, User]]:
        """Users whose address or name begins with `query`, without regard to case, in the order of what matched.

        Args:
            connection: Where to read.
            query: The beginning.
            after: The last match of the page before.
            size: The most users.
        """
        text, user_id = after or Match("", _FIRST)
        rows = await connection.fetch(SEARCH, query, text, user_id, size)
        return [(Match(row["text"], row["id"]), user) for row in rows if (user := _user(row))]

    async def holders(self, connection: Database | Transaction) -> list[User]:
        """Users who have any role, in the order of their sign-ups."""
        rows = await connection.fetch(HOLDERS)
        return [user for row in rows if (user := _user(row))]

    async def lock(self, tx: Transaction, user_id: uuid.UUID) -> User | None:
        """A user by id, whom no one else changes until the transaction ends."""
        return _user(await tx.fetchrow(f"SELECT {_COLUMNS} FROM users WHERE id = $1 FOR UPDATE", user_id))

    async def lock_all(self, tx: Transaction, user_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, User]:
        """Several users, whom no one else changes until the transaction ends."""
        rows = await tx.fetch(
            f"SELECT {_COLUMNS} FROM users WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE", user_ids
        )
        return {user.id: user for row in rows if (user := _user(row))}

    async def lock_administrators(self, tx: Transaction) -> set[uuid.UUID]:
        """Who can administer, all locked: of two who demote each other, the second sees what the first did."""
        rows = await tx.fetch(LOCK_ADMINISTRATORS)
        return {row["id"] for row in rows}

    async def add(self, tx: Transaction, user: User) -> bool:
        """Adds a user. False when the id or the address is taken, or was a user's who was deleted."""
        return bool(
            await tx.fetchval(
                """
                INSERT INTO users (id, email, display_name, create_time, update_time)
                SELECT $1::uuid, $2, $3, $4, $5 WHERE NOT EXISTS (SELECT FROM deleted_users WHERE id = $1)
                ON CONFLICT DO NOTHING RETURNING true
                """,
                user.id,
                user.email,
                user.display_name,
                user.create_time,
                user.update_time,
            )
        )

    async def delete(self, tx: Transaction, user_id: uuid.UUID) -> None:
        """Deletes a locked user. The id is remembered: no one has it again."""
        await tx.execute("DELETE FROM users WHERE id = $1", user_id)
        await tx.execute("INSERT INTO deleted_users (id) VALUES ($1)", user_id)

    async def save(self, tx: Transaction, user: User, now: datetime) -> User:
        """Writes a locked user's changeable columns, at the next version."""
        saved = _user(
            await tx.fetchrow(
                f"""
                UPDATE users SET display_name = $2, roles = $3, disabled = $4, version = version + 1,
                    update_time = $5 WHERE id = $1
                RETURNING {_COLUMNS}
                """,
                user.id,
                user.display_name,
                list(user.roles),
                user.disabled,
                now,
            )
        )
        assert saved is not None, "the row was locked"
        return saved


def _user(row: asyncpg.Record | None) -> User | None:
    if row is None:
        return None
    values = {field.name: row[field.name] for field in fields(User)}
    return User(**values | {"roles": tuple(sorted(values["roles"]))})
