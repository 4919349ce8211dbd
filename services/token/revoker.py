"""Ends sessions and tokens: the rows, the revocations that refuse access tokens everywhere, and what the audit trail says of it."""

import uuid
from collections.abc import Collection
from datetime import datetime, timedelta

from authmesh.audit.v1 import audit_event_pb2

from mesh.database import Transaction
from mesh.outbox import Outbox
from mesh.tokens.claims import Claims
from mesh.tokens.revocations import RevocationKind
from services.token.revocation_log import RevocationLog
from services.token.store import Store

SECOND = timedelta(seconds=1)


class Revoker:
    """Revokes within a transaction of its caller."""

    def __init__(self, store: Store, log: RevocationLog, outbox: Outbox) -> None:
        """Args:
        store: Has the sessions.
        log: Takes the revocations.
        outbox: Takes the events.
        """
        self._store = store
        self._log = log
        self._outbox = outbox

    async def end_sessions(
        self, tx: Transaction, subject: uuid.UUID, sessions: Collection[uuid.UUID], time: datetime, event: audit_event_pb2.AuditEvent
    ) -> list[uuid.UUID]:
        """Ends those of the person's sessions that live, and returns them. Call it last in a transaction: it takes the revocation log's lock.

        Args:
            tx: The transaction.
            subject: Whose.
            sessions: Which ones.
            time: Now.
            event: What to write down of each, without subject and session.
        """
        ended = await self._store.end_sessions(tx, subject, sessions, time)
        for session in ended:
            of_session = audit_event_pb2.AuditEvent(subject=f"users/{subject}", session=f"users/{subject}/sessions/{session}")
            of_session.MergeFrom(event)
            await self._outbox.record(tx, of_session)
        await self._log.append(tx, RevocationKind.SESSION, [str(session) for session in ended], time)
        return ended

    async def revoke_token(self, tx: Transaction, claims: Claims, time: datetime) -> None:
        """Refuses one access token. Call it last in a transaction, too."""
        event = audit_event_pb2.AuditEvent(type="token.revoked", client=f"clients/{claims.client_id}", detail={"cause": "token_revoked"})
        if claims.session:
            event.subject = f"users/{claims.subject}"
            event.session = f"users/{claims.subject}/sessions/{claims.session}"
        await self._outbox.record(tx, event)
        await self._log.append(tx, RevocationKind.TOKEN, [claims.token_id], time)

    async def revoke_subject(self, tx: Transaction, subject: uuid.UUID, not_before: datetime, time: datetime) -> None:
        """Refuses every access token of a person that says it was issued at `not_before` or earlier. Call it last in a transaction, too."""
        await self._log.append(tx, RevocationKind.SUBJECT, [str(subject)], time, not_before)

    async def revoke_client(self, tx: Transaction, client_id: str, not_before: datetime, time: datetime) -> None:
        """Refuses every access token of a client, its own and its sessions', up to the second `not_before`. Call it last, too."""
        await self._log.append(tx, RevocationKind.CLIENT, [client_id], time, not_before)


def next_not_before(known: datetime, time: datetime, *issued: datetime) -> datetime:
    """The second up to which tokens of a subject or client are refused, from now on.

    Args:
        known: The one up to now.
        time: Read when whatever could issue a token is locked, so that none was issued later. One second on top, because the clocks of Token's
            processes differ; and always past the last one, because the first token behind it says that it was issued one second later.
        issued: When the tokens were issued that are known of, by whatever clock: one that is further ahead than a second must not save them.
    """
    return max([max(time.replace(microsecond=0), known) + SECOND, *(moment.replace(microsecond=0) for moment in issued)])
