"""Ends sessions and tokens: the rows, the revocations that refuse access tokens everywhere, and what the audit trail says of it."""

import uuid
from collections.abc import Collection
from datetime import datetime

from authmesh.audit.v1 import audit_event_pb2

from mesh.database import Transaction
from mesh.outbox import Outbox
from mesh.tokens.claims import Claims
from mesh.tokens.revocations import RevocationKind
from services.token.revocation_log import RevocationLog
from services.token.store import Store


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
