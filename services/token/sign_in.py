"""Starting a session for a person whom Auth has just authenticated."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from authmesh.audit.v1 import audit_event_pb2

from mesh.database import Database, Transaction
from mesh.errors import Reason, Unauthenticated, field_invalid
from mesh.outbox import Outbox
from mesh.tokens.claims import is_name
from services.token.access_token import AccessGrant, AccessTokenWriter
from services.token.clients import Client, Clients, Registered
from services.token.grants import RoleScopes, grant
from services.token.refresh_token import digest, new_refresh_token
from services.token.revoker import Revoker
from services.token.store import Session, Store, Subject


@dataclass(frozen=True, slots=True)
class SignIn:
    """An authentication that has just succeeded."""

    subject: uuid.UUID
    client_id: str
    instance_id: uuid.UUID | None
    display_name: str
    platform: str
    scopes: frozenset[str]
    """Asked for; empty for all."""
    auth_time: datetime
    amr: tuple[str, ...]
    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class Issued:
    """What a client gets."""

    access_token: str
    refresh_token: str
    grant: AccessGrant


class SignInDesk:
    """Starts sessions."""

    def __init__(
        self,
        database: Database,
        store: Store,
        revoker: Revoker,
        outbox: Outbox,
        writer: AccessTokenWriter,
        clients: Clients,
        role_scopes: RoleScopes,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], uuid.UUID],
    ) -> None:
        """Args:
        database: For the transaction.
        store: Keeps subjects and sessions.
        revoker: Ends the sessions that are one too many.
        outbox: Takes the event.
        writer: Signs the access token.
        clients: Who may ask.
        role_scopes: What a role may have.
        clock: The time.
        new_id: Makes ids that sort by time.
        """
        self._database = database
        self._store = store
        self._revoker = revoker
        self._outbox = outbox
        self._writer = writer
        self._clients = clients
        self._role_scopes = role_scopes
        self._clock = clock
        self._new_id = new_id

    async def issue(self, sign_in: SignIn) -> Issued:
        """Starts a session.

        Raises:
            InvalidArgument: FIELD_INVALID: no such client for a person, no installation where the client demands one, impossible scopes, or control
                characters in a name.
            Unauthenticated: CREDENTIALS_INVALID: the person is disabled.
        """
        if not all(is_name(method) for method in sign_in.amr):
            raise field_invalid("amr", "names of methods have no spaces (RFC 8176)")
        refresh_token = new_refresh_token()
        async with self._database.transaction() as tx:
            subject = await self._store.lock_subject(tx, sign_in.subject)
            # Held until the commit: whoever deletes or disables the client finds this session, or this sign-in finds no client.
            registered = _for_people(await self._clients.hold(tx, sign_in.client_id), sign_in)
            client = registered.client
            if subject.disabled:
                raise Unauthenticated(Reason.CREDENTIALS_INVALID, "this account can't sign in")
            subject = replace(subject, not_before=max(subject.not_before, registered.not_before))
            scopes = grant(sign_in.scopes, client, subject.roles, self._role_scopes)
            session, access = self._begin(sign_in, client, subject, scopes)
            await self._store.add_session(tx, session, digest(refresh_token), access)
            await self._record(tx, session)
            if client.session_limit:
                await self._enforce_limit(tx, session, client.session_limit)
        return Issued(await self._writer.write(access), refresh_token, access)

    def _begin(self, sign_in: SignIn, client: Client, subject: Subject, scopes: frozenset[str]) -> tuple[Session, AccessGrant]:
        # Whole seconds, as tokens have them; and never in a second up to which this person's tokens are refused.
        now = max(self._clock().replace(microsecond=0), subject.not_before + timedelta(seconds=1))
        expire_time = now + timedelta(seconds=client.session_seconds)
        refresh_expire_time = min(now + timedelta(seconds=client.refresh_idle_seconds), expire_time)
        session = Session(
            id=self._new_id(),
            subject=subject.id,
            client_id=sign_in.client_id,
            instance_id=sign_in.instance_id,
            display_name=sign_in.display_name,
            platform=sign_in.platform,
            scopes=scopes,
            roles=subject.roles,
            not_before=subject.not_before,
            auth_time=sign_in.auth_time,
            amr=sign_in.amr,
            address=sign_in.address,
            user_agent=sign_in.user_agent,
            create_time=now,
            last_used_time=now,
            refresh_expire_time=refresh_expire_time,
            expire_time=expire_time,
        )
        access = AccessGrant(
            subject=subject.id,
            session_id=session.id,
            client_id=session.client_id,
            scopes=scopes,
            roles=subject.roles,
            token_id=self._new_id(),
            issue_time=now,
            expire_time=now + timedelta(seconds=client.access_token_seconds),
            auth_time=session.auth_time,
            amr=session.amr,
            refresh_expire_time=refresh_expire_time,
        )
        return session, access

    async def _record(self, tx: Transaction, session: Session) -> None:
        event = audit_event_pb2.AuditEvent(
            type="token.issued",
            actor=f"users/{session.subject}",
            subject=f"users/{session.subject}",
            session=f"users/{session.subject}/sessions/{session.id}",
            client=f"clients/{session.client_id}",
            address=session.address,
            user_agent=session.user_agent,
            detail={"scopes": " ".join(sorted(session.scopes)), "amr": " ".join(session.amr)},
        )
        await self._outbox.record(tx, event)

    async def _enforce_limit(self, tx: Transaction, session: Session, limit: int) -> None:
        """Ends the sessions used longest ago, never the new one. The subject's lock keeps two sign-ins from counting at the same time."""
        victims = await self._store.sessions_beyond(tx, session.subject, session.client_id, limit, session.create_time)
        event = audit_event_pb2.AuditEvent(type="token.revoked", client=f"clients/{session.client_id}", detail={"cause": "session_limit"})
        await self._revoker.end_sessions(tx, session.subject, victims, session.create_time, event)


def _for_people(found: Registered | None, sign_in: SignIn) -> Registered:
    if found is None or found.client.confidential:
        raise field_invalid("client_id", "no client that people sign in with")
    if found.client.instance_required and sign_in.instance_id is None:
        raise field_invalid("device.instance_id", "this client's sessions name their installation")
    return found
