"""Starting a session for a person whom Auth has just authenticated."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mesh.errors import NotFound, Reason, Unauthenticated, Unavailable, field_invalid
from mesh.outbox.work import Work
from mesh.tokens.claims import is_name
from mesh.tokens.policy import usable_roles
from services.token import events
from services.token.clients.client import Client, ClientRecord, Clients
from services.token.keys.access_token import AccessGrant, AccessTokenWriter
from services.token.revocation.revoker import Revoker
from services.token.sessions.grants import RoleScopes, check_scopes, grant
from services.token.sessions.refresh_token import digest, new_refresh_token
from services.token.sessions.store import NewSession, Session, Store, Subject

ATTEMPTS = 5
"""How often a sign-in is decided anew because the person's roles or the client changed while its token was signed."""


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


class SessionIssuer:
    """Starts sessions."""

    def __init__(
        self,
        work: Work,
        store: Store,
        revoker: Revoker,
        writer: AccessTokenWriter,
        clients: Clients,
        role_scopes: RoleScopes,
        *,
        mfa_roles: frozenset[str] = frozenset(),
        new_id: Callable[[], uuid.UUID],
    ) -> None:
        """Initializes the instance.

        Args:
            work: Of Token.
            store: Keeps subjects and sessions.
            revoker: Ends the sessions that are one too many.
            writer: Signs the access token.
            clients: Who may ask.
            role_scopes: What a role may have.
            mfa_roles: Roles that need a second factor: without one a session has none of their scopes.
            new_id: Makes ids that sort by time.
        """
        self._work = work
        self._store = store
        self._revoker = revoker
        self._writer = writer
        self._clients = clients
        self._role_scopes = role_scopes
        self._mfa_roles = mfa_roles
        self._new_id = new_id

    async def check(self, client_id: str, instance_id: uuid.UUID | None, scopes: frozenset[str]) -> None:
        """Judges what a sign-in asks for before anything is known of the person. `issue` judges it again.

        Raises:
            InvalidArgument: FIELD_INVALID: no such client for a person, no installation where the client demands one,
                or scopes that no one can have with this client.
        """
        check_scopes(scopes, _for_people(await self._clients.find(client_id), instance_id), self._role_scopes)

    async def issue(self, sign_in: SignIn) -> Issued:
        """Starts a session.

        Raises:
            InvalidArgument: FIELD_INVALID: no such client for a person, no installation where the client demands one,
                impossible scopes, or control characters in a name.
            Unauthenticated: CREDENTIALS_INVALID: the person is disabled.
            Unavailable: KEYS_UNAVAILABLE or DEPENDENCY_UNAVAILABLE: nothing was written, and no session ended.
        """
        _check_methods(sign_in.amr)
        refresh_token = new_refresh_token()
        registered = await self._clients.recall(sign_in.client_id)
        for _ in range(ATTEMPTS):
            subject = await self._store.find_subject(sign_in.subject)
            session, access, limit = self._begin(sign_in, subject, registered)
            # Before anything is written, and outside of the transaction: a sign-in that can't be signed leaves nothing
            # behind and ends no session, and no lock waits for KMS.
            access_token = await self._writer.write(access)
            assert registered is not None
            start = NewSession(
                session,
                digest(refresh_token),
                access,
                subject,
                client_version=registered.version,
                client_not_before=registered.not_before,
                event=self._work.outbox.event(events.issued(session)),
            )
            if await (self._start_within(start, limit) if limit else self._store.start(self._work.database, start)):
                self._work.outbox.wake()
                return Issued(access_token, refresh_token, access)
            registered = await self._clients.read(sign_in.client_id)
        raise Unavailable(
            Reason.DEPENDENCY_UNAVAILABLE, "the account or the client kept changing during this sign-in: try again"
        )

    async def reauthenticate(
        self, subject: uuid.UUID, session: uuid.UUID, auth_time: datetime, amr: Sequence[str]
    ) -> None:
        """Notes when and how the person of a session showed again who they are. The session's next tokens say so.

        Raises:
            NotFound: SESSION_NOT_FOUND: it has ended, or is someone else's.
            InvalidArgument: FIELD_INVALID `amr`: a name that no token can carry.
        """
        _check_methods(amr)
        async with self._work.begin() as tx:
            client = await self._store.reauthenticate(tx, subject, session, auth_time, amr, self._work.now())
            if client is None:
                raise NotFound(Reason.SESSION_NOT_FOUND, "the session has ended")
            tx.record(events.reauthenticated(subject, session, client, amr))

    def _begin(
        self, sign_in: SignIn, subject: Subject, registered: ClientRecord | None
    ) -> tuple[Session, AccessGrant, int]:
        """The session, its first token, and how many sessions there may be (0: any number)."""
        client = _for_people(registered.client if registered else None, sign_in.instance_id)
        assert registered is not None
        not_before = max(subject.not_before, registered.not_before)
        if subject.disabled:
            raise Unauthenticated(Reason.CREDENTIALS_INVALID, "this account can't sign in")
        roles = usable_roles(subject.roles, sign_in.amr, self._mfa_roles)
        scopes = grant(sign_in.scopes, client, roles, self._role_scopes)
        now = self._work.now()
        # Whole seconds, as tokens have them; and never in a second up to which this person's tokens are refused.
        issue_time = max(now.replace(microsecond=0), not_before + timedelta(seconds=1))
        expire_time = issue_time + timedelta(seconds=client.session_seconds)
        refresh_expire_time = min(issue_time + timedelta(seconds=client.refresh_idle_seconds), expire_time)
        session = Session(
            id=self._new_id(),
            subject=subject.id,
            client_id=sign_in.client_id,
            instance_id=sign_in.instance_id,
            display_name=sign_in.display_name,
            platform=sign_in.platform,
            scopes=scopes,
            roles=subject.roles,
            not_before=not_before,
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
            issue_time=issue_time,
            expire_time=issue_time + timedelta(seconds=client.access_token_seconds),
            auth_time=session.auth_time,
            amr=session.amr,
            refresh_expire_time=refresh_expire_time,
        )
        return session, access, client.session_limit

    async def _start_within(self, start: NewSession, limit: int) -> bool:
        """Starts a session and ends the sessions used longest ago, never the new one, beyond the limit."""
        session = start.session
        async with self._work.begin() as tx:
            if not await self._store.start(tx, start):
                return False
            # The subject is locked by now: of two sign-ins, the second counts the session of the first.
            victims = await self._store.sessions_beyond(tx, session, limit, session.create_time)
            event = events.revoked("session_limit", session.client_id)
            await self._revoker.end_sessions(tx, session.subject, victims, session.create_time, event)
        return True


def _check_methods(amr: Iterable[str]) -> None:
    if not all(is_name(method) for method in amr):
        raise field_invalid("amr", "names of methods have no spaces (RFC 8176)")


def _for_people(client: Client | None, instance_id: uuid.UUID | None) -> Client:
    if client is None or client.confidential:
        raise field_invalid("client_id", "no client that people sign in with")
    if client.instance_required and instance_id is None:
        raise field_invalid("device.instance_id", "this client's sessions name their installation")
    return client
