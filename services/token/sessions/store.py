"""The SQL of subjects, sessions and refresh tokens."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from asyncpg import Record
from authmesh.audit.v1 import audit_event_pb2

from mesh.storage.database import Database, Transaction
from services.token.keys.access_token import AccessGrant
from services.token.sessions.lineage import Lineage


@dataclass(frozen=True, slots=True)
class Subject:
    """Token's copy of what User says about a person."""

    id: uuid.UUID
    roles: frozenset[str]
    disabled: bool
    version: int
    """Of the copy."""
    not_before: datetime
    """No token may say that it was issued in this second or earlier."""


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in installation."""

    id: uuid.UUID
    subject: uuid.UUID
    client_id: str
    instance_id: uuid.UUID | None
    display_name: str
    platform: str
    scopes: frozenset[str]
    roles: frozenset[str]
    not_before: datetime
    auth_time: datetime
    amr: tuple[str, ...]
    address: str
    user_agent: str
    create_time: datetime
    last_used_time: datetime
    refresh_expire_time: datetime
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a client wants of a refresh, in one statement."""

    parent_hash: bytes
    successor_hash: bytes
    sealed_successor: bytes
    time: datetime
    client_id: str
    instance_id: uuid.UUID | None
    scopes: frozenset[str]
    """Fewer than the session's, or empty for all of them."""
    address: str
    token_id: uuid.UUID
    access_lifetime: timedelta
    idle_lifetime: timedelta
    event: audit_event_pb2.AuditEvent
    """`token.refreshed`, without the subject and session: the statement fills them in."""


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that is to be started, and what it was decided by."""

    session: Session
    token_hash: bytes
    """Of its first refresh token."""
    grant: AccessGrant
    """Its first access token."""
    subject: Subject
    client_version: int
    client_not_before: datetime
    event: audit_event_pb2.AuditEvent
    """`token.issued`."""


@dataclass(frozen=True, slots=True)
class StoredRefreshToken:
    """A refresh token that is known."""

    session_id: uuid.UUID
    subject: uuid.UUID
    lineage: Lineage
    sealed_successor: bytes | None
    successor: AccessGrant | None
    """What was answered when the token was spent."""
    own: AccessGrant
    """What was answered together with this token."""


def _head(field: str, length: int) -> str:
    """SQL for the bytes before a protobuf field of `length` bytes, below 128.

    Messages may be concatenated: that is how protobuf merges them.
    """
    number = audit_event_pb2.AuditEvent.DESCRIPTOR.fields_by_name[field].number
    return rf"'\x{number << 3 | 2:02x}{length:02x}'::bytea"


_USER = "convert_to('users/' || session.subject, 'UTF8')"
_USER_BYTES = len("users/") + 36
_SESSION = "convert_to('users/' || session.subject || '/sessions/' || session.id, 'UTF8')"
_SESSION_BYTES = _USER_BYTES + len("/sessions/") + 36

# One atomic statement, one round trip. The first to update the parent has spent it; everyone else finds no row and
# asks `find` what that means, in a statement of its own: in this one they would still see the state before the winner's
# commit. The session's row lock orders this with sign-out and role changes: a session that ended in between yields no
# successor, and the parent is spent in vain; scopes that it lost are not given.
_ROTATE = rf"""
WITH parent AS (
    UPDATE refresh_tokens AS token SET rotate_time = $4, successor = $2, sealed_successor = $3
    FROM sessions AS session
    WHERE token.hash = $1 AND token.rotate_time IS NULL AND token.expire_time > $4
        AND session.id = token.session_id AND session.end_time IS NULL AND session.expire_time > $4
        AND session.client_id = $5 AND (session.instance_id IS NULL OR session.instance_id = $6)
            AND session.scopes @> $7::text[]
    RETURNING session.id
), session AS (
    UPDATE sessions SET last_used_time = $4, address = $8,
        issue_time = GREATEST(date_trunc('second', $4::timestamptz), not_before + interval '1 second'),
        refresh_expire_time = LEAST(date_trunc('second', $4::timestamptz) + $11, expire_time)
    FROM parent WHERE sessions.id = parent.id AND end_time IS NULL
    RETURNING sessions.*
), successor AS (
    INSERT INTO refresh_tokens (hash, session_id, token_id, issue_time, access_expire_time, expire_time, scopes, roles)
    SELECT $2, id, $9, issue_time, GREATEST(LEAST(issue_time + $10, expire_time), issue_time + interval '1 second'),
        refresh_expire_time,
        CASE WHEN cardinality($7::text[]) = 0 THEN scopes
             ELSE ARRAY(SELECT unnest($7::text[]) INTERSECT SELECT unnest(scopes)) END,
        roles
    FROM session
    RETURNING *
), event AS (
    INSERT INTO outbox (kind, destination, payload)
    SELECT 'audit', $13, $12::bytea || {_head("actor", _USER_BYTES)} || {_USER} || {_head("subject", _USER_BYTES)} || {
    _USER
}
        || {_head("session", _SESSION_BYTES)} || {_SESSION}
    FROM session
)
SELECT session.subject, session.client_id, session.auth_time, session.amr, successor.*
FROM successor JOIN session ON session.id = successor.session_id
"""

_FIND = """
SELECT token.*, session.subject, session.client_id, session.instance_id, session.auth_time, session.amr,
    session.scopes AS session_scopes,
    session.end_time IS NOT NULL OR session.expire_time <= $2 AS session_is_over,
    next.hash AS next_hash, next.rotate_time IS NOT NULL AS next_is_spent, next.token_id AS next_token_id,
        next.issue_time AS next_issue_time,
    next.access_expire_time AS next_access_expire_time, next.expire_time AS next_expire_time,
        next.scopes AS next_scopes, next.roles AS next_roles
FROM refresh_tokens AS token
JOIN sessions AS session ON session.id = token.session_id
LEFT JOIN refresh_tokens AS next ON next.hash = token.successor
WHERE token.hash = $1
"""

# One statement, one round trip. The person's row and then the client's are locked, in this order in every plan, and
# held until the commit: a change of roles, or the deletion of the client, finds this session, or this statement finds
# the change.
_START = """
WITH subject AS (
    INSERT INTO subjects (id) VALUES ($2) ON CONFLICT (id) DO UPDATE SET id = EXCLUDED.id RETURNING *
), unchanged AS (
    SELECT subject.id FROM subject JOIN clients AS client ON client.id = $3
    WHERE subject.version = $21 AND subject.not_before = $22 AND subject.roles = $8::text[] AND NOT subject.disabled
        AND client.delete_time IS NULL AND client.version = $23 AND client.not_before = $24
    FOR SHARE OF client
), session AS (
    INSERT INTO sessions (id, subject, client_id, instance_id, display_name, platform, scopes, roles, not_before,
        auth_time, amr, address, user_agent, create_time, last_used_time, refresh_expire_time, expire_time, issue_time)
    SELECT $1::uuid, id, $3::text, $4::uuid, $5::text, $6::text, $7::text[], $8::text[], $9::timestamptz,
        $10::timestamptz, $11::text[], $12::text, $13::text, $14::timestamptz, $14::timestamptz, $15::timestamptz,
        $16::timestamptz, $19::timestamptz
    FROM unchanged
    RETURNING *
), token AS (
    INSERT INTO refresh_tokens (hash, session_id, token_id, issue_time, access_expire_time, expire_time, scopes, roles)
    SELECT $17::bytea, id, $18::uuid, issue_time, $20::timestamptz, refresh_expire_time, scopes, roles FROM session
), event AS (
    INSERT INTO outbox (kind, destination, payload) SELECT 'audit', $25::text, $26::bytea FROM session
)
SELECT id FROM session
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIVE = "end_time IS NULL AND refresh_expire_time > "

# `iat` of the newest token of a session. A release before 0006 wrote none, and made it of the two other times.
ISSUED = """
GREATEST(
    issue_time, date_trunc('second', last_used_time),
    CASE WHEN issue_time IS NULL THEN not_before + interval '1 second' END
)
"""


class Store:
    """Reads and writes. Methods that take a transaction are part of its caller's."""

    def __init__(self, database: Database) -> None:
        """Initializes the instance.

        Args:
            database: Token's own.
        """
        self._database = database

    async def rotate(self, rotation: Rotation) -> AccessGrant | None:
        """Spends a refresh token and makes its successor, if that can be done now; None leaves everything as it was."""
        row = await self._database.fetchrow(
            _ROTATE,
            rotation.parent_hash,
            rotation.successor_hash,
            rotation.sealed_successor,
            rotation.time,
            rotation.client_id,
            rotation.instance_id,
            sorted(rotation.scopes),
            rotation.address,
            rotation.token_id,
            rotation.access_lifetime,
            rotation.idle_lifetime,
            rotation.event.SerializeToString(deterministic=True),
            rotation.event.type,
        )
        return _grant(row) if row else None

    async def find(self, token_hash: bytes, time: datetime) -> StoredRefreshToken | None:
        """A refresh token with its session and its successor, as of now."""
        return _found(await self._database.fetchrow(_FIND, token_hash, time))

    async def find_locked(self, tx: Transaction, token_hash: bytes, time: datetime) -> StoredRefreshToken | None:
        """The same, and no one else counts a replay of it meanwhile."""
        return _found(await tx.fetchrow(_FIND + "FOR UPDATE OF token", token_hash, time))

    async def count_replay(self, tx: Transaction, token_hash: bytes) -> None:
        """Counts a repetition of a spent token, and passes on to its successor that there was one."""
        await tx.execute(
            """
            WITH token AS (UPDATE refresh_tokens SET replays = replays + 1 WHERE hash = $1
                RETURNING successor, replayed_ancestors)
            UPDATE refresh_tokens SET replayed_ancestors = token.replayed_ancestors + 1 FROM token
                WHERE hash = token.successor
            """,
            token_hash,
        )

    async def mark_unanswered(self, token_hash: bytes) -> None:
        """Notes that a spent token got no answer, because none could be signed."""
        await self._database.execute(
            "UPDATE refresh_tokens SET unanswered = true WHERE hash = $1 AND rotate_time IS NOT NULL", token_hash
        )

    async def mark_answered(self, token_hash: bytes, time: datetime) -> None:
        """Notes that it got one at last: its grace begins now."""
        await self._database.execute(
            "UPDATE refresh_tokens SET unanswered = false, rotate_time = $2 WHERE hash = $1 AND unanswered",
            token_hash,
            time,
        )

    async def find_subject(self, subject: uuid.UUID) -> Subject:
        """The copy of a person's roles and status, as it is; what `lock_subject` would make when there is none."""
        row = await self._database.fetchrow("SELECT * FROM subjects WHERE id = $1", subject)
        return _subject(row) if row else Subject(subject, frozenset(), disabled=False, version=0, not_before=_EPOCH)

    async def lock_subject(self, tx: Transaction, subject: uuid.UUID) -> Subject:
        """The copy of a person's roles and status, made when there is none.

        Its lock orders sign-ins, role changes and revocations of one person.
        """
        row = await tx.fetchrow(
            "INSERT INTO subjects (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET id = EXCLUDED.id RETURNING *", subject
        )
        assert row is not None
        return _subject(row)

    async def save_subject(self, tx: Transaction, subject: Subject) -> None:
        """Writes the copy back."""
        await tx.execute(
            "UPDATE subjects SET roles = $2, disabled = $3, version = $4, not_before = $5 WHERE id = $1",
            subject.id,
            sorted(subject.roles),
            subject.disabled,
            subject.version,
            subject.not_before,
        )

    async def start(self, source: Database | Transaction, new: NewSession) -> bool:
        """Starts a session with its first refresh token.

        False, and no session, when the person or the client is not what it was decided by any more.
        """
        session, grant, subject = new.session, new.grant, new.subject
        started = await source.fetchval(
            _START,
            session.id,
            session.subject,
            session.client_id,
            session.instance_id,
            session.display_name,
            session.platform,
            sorted(session.scopes),
            sorted(session.roles),
            session.not_before,
            session.auth_time,
            list(session.amr),
            session.address,
            session.user_agent,
            session.create_time,
            session.refresh_expire_time,
            session.expire_time,
            new.token_hash,
            grant.token_id,
            grant.issue_time,
            grant.expire_time,
            subject.version,
            subject.not_before,
            new.client_version,
            new.client_not_before,
            new.event.type,
            new.event.SerializeToString(deterministic=True),
        )
        return started is not None

    async def sessions_beyond(self, tx: Transaction, session: Session, limit: int, time: datetime) -> list[uuid.UUID]:
        """The live sessions that are too many beside this one.

        Of the person's others with the client, those used longest ago.
        """
        rows = await tx.fetch(
            f"""
            SELECT id FROM sessions WHERE subject = $1 AND client_id = $2 AND id <> $3 AND {_LIVE} $4
            ORDER BY last_used_time DESC, id DESC OFFSET $5
            """,
            session.subject,
            session.client_id,
            session.id,
            time,
            limit - 1,
        )
        return [row["id"] for row in rows]

    async def lock_sessions(self, tx: Transaction, subject: uuid.UUID) -> dict[uuid.UUID, datetime]:
        """The person's sessions that were not ended, and the `iat` of the newest token of each.

        While they are locked none of them is refreshed.
        """
        rows = await tx.fetch(
            f"SELECT id, {ISSUED} AS issued FROM sessions WHERE subject = $1 AND end_time IS NULL "
            f"ORDER BY id FOR UPDATE",
            subject,
        )
        return {row["id"]: row["issued"] for row in rows}

    async def lock_ended(self, tx: Transaction, session: uuid.UUID) -> bool:
        """Whether a session was ended. One that lives is not ended, nor refreshed, until the transaction ends."""
        return await tx.fetchval("SELECT end_time IS NOT NULL FROM sessions WHERE id = $1 FOR UPDATE", session) is True

    async def end_sessions(
        self, tx: Transaction, subject: uuid.UUID, sessions: Collection[uuid.UUID], time: datetime
    ) -> list[uuid.UUID]:
        """Ends those of a person's sessions that were not ended yet, and returns them.

        What they say of the person's devices goes at once: no one reads it any more.
        """
        rows = await tx.fetch(
            """
            UPDATE sessions SET end_time = $3, display_name = '', address = '', user_agent = ''
            WHERE id IN (SELECT id FROM sessions WHERE id = ANY($2::uuid[]) AND subject = $1
                AND end_time IS NULL ORDER BY id FOR UPDATE)
            RETURNING id
            """,
            subject,
            list(sessions),
            time,
        )
        return [row["id"] for row in rows]

    async def reauthenticate(
        self,
        tx: Transaction,
        subject: uuid.UUID,
        session: uuid.UUID,
        auth_time: datetime,
        amr: Sequence[str],
        time: datetime,
    ) -> str | None:
        """Writes when and how the person of a live session showed who they are. Returns the session's client.

        None where there is no such session. Methods are added to those that it has.
        """
        client = await tx.fetchval(
            f"""
            UPDATE sessions SET auth_time = GREATEST(auth_time, $3),
                amr = amr || ARRAY(SELECT unnest($4::text[]) EXCEPT SELECT unnest(amr))
            WHERE id = $2 AND subject = $1 AND {_LIVE} $5 RETURNING client_id
            """,
            subject,
            session,
            auth_time,
            list(amr),
            time,
        )
        return None if client is None else str(client)

    async def change_sessions(
        self,
        tx: Transaction,
        sessions: Collection[uuid.UUID],
        roles: Collection[str],
        scopes: Collection[str],
        not_before: datetime,
    ) -> None:
        """Gives sessions new roles.

        They keep those of their scopes that are among `scopes`; new ones take a new sign-in.
        """
        await tx.execute(
            """
            UPDATE sessions SET roles = $2, not_before = $3,
                scopes = ARRAY(SELECT unnest(scopes) INTERSECT SELECT unnest($4::text[]))
            WHERE id = ANY($1::uuid[])
            """,
            list(sessions),
            sorted(roles),
            not_before,
            sorted(scopes),
        )

    async def live_sessions(
        self, subject: uuid.UUID, before: uuid.UUID | None, limit: int, time: datetime
    ) -> Sequence[Session]:
        """A page of a person's live sessions, newest first, from behind the session `before`."""
        rows = await self._database.fetch(
            f"SELECT * FROM sessions WHERE subject = $1 AND ($2::uuid IS NULL OR id < $2) AND "
            f"{_LIVE} $3 ORDER BY id DESC LIMIT $4",
            subject,
            before,
            time,
            limit,
        )
        return [_session(row) for row in rows]

    async def begin_command(self, tx: Transaction, request_id: uuid.UUID) -> bool:
        """False when this command was carried out already."""
        return (
            await tx.execute("INSERT INTO commands (request_id) VALUES ($1) ON CONFLICT DO NOTHING", request_id)
            == "INSERT 0 1"
        )


def _subject(row: Record) -> Subject:
    return Subject(row["id"], frozenset(row["roles"]), row["disabled"], row["version"], row["not_before"])


def _session(row: Record) -> Session:
    return Session(
        id=row["id"],
        subject=row["subject"],
        client_id=row["client_id"],
        instance_id=row["instance_id"],
        display_name=row["display_name"],
        platform=row["platform"],
        scopes=frozenset(row["scopes"]),
        roles=frozenset(row["roles"]),
        not_before=row["not_before"],
        auth_time=row["auth_time"],
        amr=tuple(row["amr"]),
        address=row["address"],
        user_agent=row["user_agent"],
        create_time=row["create_time"],
        last_used_time=row["last_used_time"],
        refresh_expire_time=row["refresh_expire_time"],
        expire_time=row["expire_time"],
    )


def _grant(row: Record, prefix: str = "") -> AccessGrant:
    return AccessGrant(
        subject=row["subject"],
        session_id=row["session_id"],
        client_id=row["client_id"],
        scopes=frozenset(row[prefix + "scopes"]),
        roles=frozenset(row[prefix + "roles"]),
        token_id=row[prefix + "token_id"],
        issue_time=row[prefix + "issue_time"],
        expire_time=row[prefix + "access_expire_time"],
        auth_time=row["auth_time"],
        amr=tuple(row["amr"]),
        refresh_expire_time=row[prefix + "expire_time"],
    )


def _found(row: Record | None) -> StoredRefreshToken | None:
    if row is None:
        return None
    return StoredRefreshToken(
        session_id=row["session_id"],
        subject=row["subject"],
        lineage=Lineage(
            client_id=row["client_id"],
            instance_id=row["instance_id"],
            session_scopes=row["session_scopes"],
            session_is_over=row["session_is_over"],
            expire_time=row["expire_time"],
            rotate_time=row["rotate_time"],
            replays=row["replays"],
            replayed_ancestors=row["replayed_ancestors"],
            unanswered=row["unanswered"],
            successor_is_spent=row["next_is_spent"],
        ),
        sealed_successor=row["sealed_successor"],
        successor=_grant(row, "next_") if row["next_hash"] else None,
        own=_grant(row),
    )
