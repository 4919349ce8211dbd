"""Giving confidential clients tokens of their own for what they signed (RFC 7523, and RFC 6749 section 4.4)."""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from authmesh.audit.v1 import audit_event_pb2

from mesh.database import Database, Transaction
from mesh.errors import Reason, Unauthenticated, field_invalid
from mesh.outbox import Outbox
from mesh.tokens.claims import ClaimsError
from services.token.access_token import AccessTokenWriter, ClientGrant
from services.token.client_assertion import Assertion, Fault, read_assertion
from services.token.client_store import spend_assertion
from services.token.clients import Clients, Registered
from services.token.revoker import SECOND

REFUSALS_APART = timedelta(seconds=10)
"""How often a refusal of one client for one cause is written down by one process. Whoever picked up an old assertion can send it for ever."""


class ClientTokenDesk:
    """Checks assertions and issues the tokens. There is no refresh token: the client signs another assertion."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        writer: AccessTokenWriter,
        clients: Clients,
        issuer: str,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], uuid.UUID],
    ) -> None:
        """Args:
        database: For the transaction.
        outbox: Takes the events.
        writer: Signs the access token.
        clients: Who may ask.
        issuer: `aud` of the assertions.
        clock: The time.
        new_id: Makes ids.
        """
        self._database = database
        self._outbox = outbox
        self._writer = writer
        self._clients = clients
        self._issuer = issuer
        self._clock = clock
        self._new_id = new_id
        # (client, cause) -> when it was written down last, and how often it was not since.
        self._refusals: dict[tuple[str, Fault], tuple[datetime, int]] = {}

    async def issue(self, text: str, scopes: frozenset[str]) -> tuple[str, ClientGrant]:
        """A token for the client that signed this assertion, which is good once.

        Args:
            text: The assertion.
            scopes: Asked for; empty for all of the client's.

        Raises:
            Unauthenticated: CREDENTIALS_INVALID, whatever the cause.
            InvalidArgument: FIELD_INVALID `scopes`: one that the client doesn't have.
        """
        try:
            assertion = read_assertion(text)
        except ClaimsError as error:
            raise _refusal() from error
        # Before any transaction: whoever can't sign costs a signature's check, and what is remembered of the client.
        client = await self._clients.find(assertion.client_id)
        if client is None or not client.confidential or assertion.verified_by(client.jwks) is None:
            raise _refusal()
        async with self._database.transaction() as tx:
            registered = await self._clients.hold(tx, assertion.client_id)
            # A second look: what was remembered may be a second old, and the key gone since.
            if registered is None or assertion.verified_by(registered.client.jwks) is None:
                raise _refusal()
            now = self._clock()
            fault = assertion.fault(self._issuer, now.timestamp())
            if fault is None:
                granted = _granted(scopes, registered.client.scopes)
                if not await spend_assertion(tx, assertion.client_id, assertion.token_id, assertion.spent_until):
                    fault = Fault.REPLAYED
            if fault is None:
                grant = self._grant(registered, granted, now)
                await self._record_issued(tx, assertion, grant)
            else:
                await self._record_refused(tx, assertion, fault, now)
        # Behind the block, which commits what was written down.
        if fault:
            raise _refusal()
        return await self._writer.write_client(grant), grant

    def _grant(self, registered: Registered, scopes: frozenset[str], now: datetime) -> ClientGrant:
        # Whole seconds, as tokens have them; and never in a second up to which this client's tokens are refused.
        issue_time = max(now.replace(microsecond=0), registered.not_before + SECOND)
        return ClientGrant(
            client_id=registered.id,
            scopes=scopes,
            token_id=self._new_id(),
            issue_time=issue_time,
            expire_time=issue_time + timedelta(seconds=registered.client.access_token_seconds),
        )

    async def _record_issued(self, tx: Transaction, assertion: Assertion, grant: ClientGrant) -> None:
        client = f"clients/{assertion.client_id}"
        detail = {"scopes": " ".join(sorted(grant.scopes)), "assertion": assertion.token_id}
        await self._outbox.record(tx, audit_event_pb2.AuditEvent(type="token.issued", actor=client, client=client, detail=detail))

    async def _record_refused(self, tx: Transaction, assertion: Assertion, fault: Fault, now: datetime) -> None:
        last, left_out = self._refusals.get((assertion.client_id, fault), (None, 0))
        if last is not None and now - last < REFUSALS_APART:
            self._refusals[assertion.client_id, fault] = last, left_out + 1
            return
        self._refusals[assertion.client_id, fault] = now, 0
        event = audit_event_pb2.AuditEvent(
            type="token.client_refused",
            outcome=audit_event_pb2.OUTCOME_FAILURE,
            reason=Reason.CREDENTIALS_INVALID,
            client=f"clients/{assertion.client_id}",
            detail={"cause": fault, "assertion": assertion.token_id, "left_out": str(left_out)},
        )
        await self._outbox.record(tx, event)


def _granted(requested: frozenset[str], allowed: frozenset[str]) -> frozenset[str]:
    if not requested <= allowed:
        raise field_invalid("scopes", "the client doesn't have all of these")
    return requested or allowed


def _refusal() -> Unauthenticated:
    # One answer for all causes, so that nobody finds out by it which clients there are, or what is wrong with a key they hold.
    return Unauthenticated(Reason.CREDENTIALS_INVALID, "the client assertion is not valid")
