"""Giving confidential clients tokens of their own for what they signed (RFC 7523, and RFC 6749 section 4.4)."""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from mesh.errors import Reason, Unauthenticated, Unavailable, field_invalid
from mesh.outbox.work import Work
from mesh.tokens.claims import ClaimsError
from mesh.tokens.denials import Denials
from services.token import events
from services.token.clients.assertion import Assertion, Fault, read_assertion
from services.token.clients.client import ClientRecord, Clients
from services.token.clients.store import is_spent, spend_assertion
from services.token.keys.access_token import AccessTokenWriter, ClientGrant
from services.token.refusals import Refusals
from services.token.revocation.revoker import SECOND

ATTEMPTS = 5
"""How often a token is made anew because the client changed while it was signed."""


class ClientCredentialsGrant:
    """Checks assertions and issues the tokens. There is no refresh token: the client signs another assertion."""

    def __init__(
        self,
        work: Work,
        denials: Denials,
        refusals: Refusals,
        writer: AccessTokenWriter,
        clients: Clients,
        issuer: str,
        *,
        new_id: Callable[[], uuid.UUID],
    ) -> None:
        """Initializes the instance.

        Args:
            work: Of Token.
            denials: Takes refusals of assertions that expire soon.
            refusals: Counts those of all others.
            writer: Signs the access token.
            clients: Who may ask.
            issuer: `aud` of the assertions.
            new_id: Makes ids.
        """
        self._work = work
        self._denials = denials
        self._refusals = refusals
        self._writer = writer
        self._clients = clients
        self._issuer = issuer
        self._new_id = new_id

    async def issue(self, text: str, scopes: frozenset[str]) -> tuple[str, ClientGrant]:
        """A token for the client that signed this assertion, which is good once.

        Args:
            text: The assertion.
            scopes: Asked for; empty for all of the client's.

        Raises:
            Unauthenticated: CREDENTIALS_INVALID, whatever the cause.
            InvalidArgument: FIELD_INVALID `scopes`: one that the client doesn't have.
            Unavailable: KEYS_UNAVAILABLE or DEPENDENCY_UNAVAILABLE: the same assertion may be sent again.
        """
        try:
            assertion = read_assertion(text)
        except ClaimsError as error:
            raise _refusal() from error
        # A caller that can't sign costs a signature's check, and what is remembered of the client.
        client = await self._clients.find(assertion.client_id)
        if client is None or not client.confidential or assertion.verified_by(client.jwks) is None:
            raise _refusal()
        registered = await self._clients.read(assertion.client_id)
        for _ in range(ATTEMPTS):
            # A second look: what was remembered may be a second old, and the key gone since.
            if registered is None or assertion.verified_by(registered.client.jwks) is None:
                raise _refusal()
            now = self._work.now()
            if fault := assertion.fault(self._issuer, now.timestamp()):
                raise await self._refused(assertion, fault)
            if await is_spent(self._work.database, assertion.client_id, assertion.token_id):
                raise await self._refused(assertion, Fault.REPLAYED)
            grant = self._grant(registered, _granted(scopes, registered.client.scopes), now)
            # Before anything is written, and outside of the transaction: when it can't be signed the assertion is not
            # spent.
            access_token = await self._writer.write_client(grant)
            async with self._work.begin() as tx:
                found = await self._clients.hold(tx, assertion.client_id)
                unchanged = found == registered
                if unchanged and await spend_assertion(
                    tx, assertion.client_id, assertion.token_id, assertion.spent_until
                ):
                    tx.record(events.issued_to_client(assertion.client_id, grant.scopes, assertion.token_id))
                    return access_token, grant
            if unchanged:
                raise await self._refused(assertion, Fault.REPLAYED)
            registered = found
        raise Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "the client kept changing during this call: try again")

    def _grant(self, registered: ClientRecord, scopes: frozenset[str], now: datetime) -> ClientGrant:
        # Whole seconds, as tokens have them; and never in a second up to which this client's tokens are refused.
        issue_time = max(now.replace(microsecond=0), registered.not_before + SECOND)
        return ClientGrant(
            client_id=registered.id,
            scopes=scopes,
            token_id=self._new_id(),
            issue_time=issue_time,
            expire_time=issue_time + timedelta(seconds=registered.client.access_token_seconds),
        )

    async def _refused(self, assertion: Assertion, fault: Fault) -> Unauthenticated:
        """The refusal of an assertion that the client did sign.

        It is on record if it can be shown for minutes only: the caller may be another than the client, with what it
        once sent.
        """
        if fault.is_lasting:
            self._refusals.count(f"assertion of {assertion.client_id}: {fault}")
            return _refusal()
        await self._denials.record(events.client_refused(assertion.client_id, fault, assertion.token_id))
        return _refusal()


def _granted(requested: frozenset[str], allowed: frozenset[str]) -> frozenset[str]:
    if not requested <= allowed:
        raise field_invalid("scopes", "the client doesn't have all of these")
    return requested or allowed


def _refusal() -> Unauthenticated:
    # One answer for all causes, so that no one finds out by it which clients there are, or what is wrong with a key
    # they hold.
    return Unauthenticated(Reason.CREDENTIALS_INVALID, "the client assertion is not valid")
