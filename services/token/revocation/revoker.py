"""Ends sessions and tokens.

The rows, the revocations that refuse access tokens everywhere, and what the audit trail says of it.
"""

import uuid
from collections.abc import Collection
from datetime import datetime, timedelta

from authmesh.audit.v1.audit_event_pb2 import AuditEvent

from mesh.errors import Reason, ResourceExhausted
from mesh.outbox.work import UnitOfWork
from mesh.tokens.claims import Claims
from mesh.tokens.revocations import RevocationKind
from mesh.tokens.verifier import LEEWAY_SECONDS
from services.token import events
from services.token.clients.store import lock_client
from services.token.revocation.log import RevocationLog
from services.token.sessions.store import Store

SECOND = timedelta(seconds=1)
AHEAD = timedelta(seconds=LEEWAY_SECONDS // 2)
"""How far `not_before` may be ahead of the time. The first token behind it says that it was issued one second later,
and verifiers, whose clocks differ, must still take it."""
TOKENS_APART = 20
"""How many tokens of a session, or of a client itself, may be revoked one by one while an entry is kept: every process
has to remember each."""


class Revoker:
    """Revokes within a transaction of its caller."""

    def __init__(self, store: Store, log: RevocationLog) -> None:
        """Initializes the instance.

        Args:
            store: Has the sessions.
            log: Takes the revocations.
        """
        self._store = store
        self._log = log

    async def end_sessions(
        self,
        tx: UnitOfWork,
        subject: uuid.UUID,
        sessions: Collection[uuid.UUID],
        time: datetime,
        event: AuditEvent,
    ) -> list[uuid.UUID]:
        """Ends those of the person's sessions that live, and returns them.

        Call it last in a transaction: it takes the revocation log's lock.

        Args:
            tx: The transaction.
            subject: Whose.
            sessions: Which ones.
            time: Now.
            event: What to write down of each, without subject and session.
        """
        ended = await self._store.end_sessions(tx, subject, sessions, time)
        for session in ended:
            tx.record(events.of_session(event, subject, session))
        await self._log.append(tx, RevocationKind.SESSION, [str(session) for session in ended], time)
        return ended

    async def revoke_token(self, tx: UnitOfWork, claims: Claims, time: datetime) -> None:
        """Refuses one access token. Call it last in a transaction, too.

        A repeat, and a token of a session that has ended, change nothing. One more than `TOKENS_APART` ends the
        session.

        Raises:
            ResourceExhausted: RATE_LIMITED: too many tokens that the client has for itself.
        """
        session = uuid.UUID(claims.session) if claims.session else None
        # Either lock makes the holder's revocations wait for each other, so that they are counted one by one.
        if session is None:
            await lock_client(tx, claims.client_id)
        elif await self._store.lock_ended(tx, session):
            return
        holder = claims.session or claims.client_id
        known = await self._log.tokens_of(tx, holder, time)
        if claims.token_id in known:
            return
        if len(known) < TOKENS_APART:
            event = events.revoked("token_revoked", claims.client_id)
            tx.record(events.of_session(event, uuid.UUID(claims.subject), session) if session else event)
            await self._log.append(tx, RevocationKind.TOKEN, [claims.token_id], time, holder=holder)
        elif session:
            event = events.revoked("tokens_revoked", claims.client_id)
            await self.end_sessions(tx, uuid.UUID(claims.subject), [session], time, event)
        else:
            message = (
                f"{TOKENS_APART} tokens of this client were revoked within the hour: "
                f"replacing its key revokes all of them"
            )
            raise ResourceExhausted(Reason.RATE_LIMITED, message, retry_after=timedelta(minutes=10))

    async def revoke_subject(self, tx: UnitOfWork, subject: uuid.UUID, not_before: datetime, time: datetime) -> None:
        """Refuses every access token of a person that says it was issued at `not_before` or earlier.

        Call it last in a transaction, too.
        """
        await self._log.append(tx, RevocationKind.SUBJECT, [str(subject)], time, not_before)

    async def revoke_client(self, tx: UnitOfWork, client_id: str, not_before: datetime, time: datetime) -> None:
        """Refuses every access token of a client, its own and its sessions', up to the second `not_before`.

        Call it last, too.
        """
        await self._log.append(tx, RevocationKind.CLIENT, [client_id], time, not_before)


def next_not_before(known: datetime, time: datetime, issued: Collection[datetime]) -> datetime:
    """The second up to which tokens of a person are refused, from now on.

    It moves on with the time and with the tokens that were issued, and not with the number of revocations.

    Args:
        known: The one up to now.
        time: Read when whatever could issue a token is locked, so that none was issued later.
        issued: `iat` of the newest token of each session that lives, by whatever clock.
    """
    return max(time.replace(microsecond=0), known, *issued)


def next_not_before_of_client(known: datetime, time: datetime, issued: datetime) -> datetime:
    """The same for a client.

    No one knows when its own tokens were issued. So it is one second more than the time, because the clocks of Token's
    processes differ, and more than the last one, because the first token behind that says that it was issued a second
    later.

    Args:
        known: The one up to now.
        time: Read when whatever could issue a token is locked.
        issued: `iat` of the newest token of its sessions.

    Raises:
        ResourceExhausted: RATE_LIMITED: so many times in a few seconds that new tokens would not be valid yet.
    """
    following = max(time.replace(microsecond=0), known) + SECOND
    if following > time + AHEAD:
        message = "this client's tokens were revoked too often: wait, then try again"
        raise ResourceExhausted(Reason.RATE_LIMITED, message, retry_after=following - time - AHEAD)
    return max(following, issued)
