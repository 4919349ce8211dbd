"""Refreshing: the atomic rotation first, and the meaning of a token that it did not take afterwards."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from mesh.errors import MeshError, PermissionDenied, Reason, Unauthenticated, Unavailable
from mesh.outbox.work import UnitOfWork, Work
from mesh.tokens.denials import Denials
from services.token import events
from services.token.clients.client import Client, Clients
from services.token.keys.access_token import AccessGrant, AccessTokenWriter
from services.token.refusals import Refusals
from services.token.revocation.revoker import Revoker
from services.token.sessions.lineage import RefreshAttempt, RefreshOutcome, evaluate
from services.token.sessions.refresh_token import digest, is_refresh_token, new_refresh_token, seal, unseal
from services.token.sessions.sign_in import Issued
from services.token.sessions.store import Rotation, Store, StoredRefreshToken

ANSWERED = (RefreshOutcome.RACE, RefreshOutcome.REPLAY)
REFUSED = frozenset(RefreshOutcome) - {*ANSWERED, RefreshOutcome.SPENDABLE, RefreshOutcome.REUSE}
"""What changes nothing and is refused."""
_log = structlog.get_logger("authmesh.refresh")


@dataclass(frozen=True, slots=True)
class Refresh:
    """What a client sent."""

    refresh_token: str
    client_id: str
    instance_id: uuid.UUID | None
    scopes: frozenset[str]
    address: str


class TokenRefresher:
    """Spends refresh tokens."""

    def __init__(
        self,
        work: Work,
        store: Store,
        revoker: Revoker,
        denials: Denials,
        refusals: Refusals,
        writer: AccessTokenWriter,
        clients: Clients,
        *,
        new_id: Callable[[], uuid.UUID],
    ) -> None:
        """Initializes the instance.

        Args:
            work: Of Token.
            store: Keeps the lines.
            revoker: Ends a family.
            denials: Takes refusals of tokens that are good.
            refusals: Counts those of all others.
            writer: Signs access tokens.
            clients: Who may ask, as they were at most a second ago.
            new_id: Makes ids.
        """
        self._work = work
        self._store = store
        self._revoker = revoker
        self._denials = denials
        self._refusals = refusals
        self._writer = writer
        self._clients = clients
        self._new_id = new_id

    async def refresh(self, request: Refresh) -> Issued:
        """The next tokens; for a token within its grace, the ones that were given for it first.

        Raises:
            Unauthenticated: REFRESH_INVALID or REFRESH_REUSED.
            PermissionDenied: SCOPE_MISSING: more than the session has.
            Unavailable: DEPENDENCY_UNAVAILABLE or KEYS_UNAVAILABLE: the same token may be sent again.
        """
        client = await self._clients.find(request.client_id) if is_refresh_token(request.refresh_token) else None
        if client is None:
            self._refusals.count("refresh token: unknown")
            raise _refusal(RefreshOutcome.UNKNOWN)
        time = self._work.now()
        # Scopes that the client can't have are missing from a token that is good: to who made a token up they say
        # nothing.
        if request.scopes <= client.scopes:
            successor = new_refresh_token()
            grant = await self._store.rotate(self._rotation(request, client, successor, time))
            if grant:
                self._work.outbox.wake()
                return await self._answer(request, successor, grant, client)
        presented = RefreshAttempt(
            request.client_id,
            request.instance_id,
            request.scopes,
            client_scopes=client.scopes,
            grace=timedelta(seconds=client.refresh_grace_seconds),
            time=time,
        )
        found, verdict = await self._diagnose(request.refresh_token, presented)
        if verdict not in ANSWERED:
            raise _refusal(verdict)
        if found is None or found.successor is None or found.sealed_successor is None:
            raise _refusal(RefreshOutcome.SPENDABLE)
        issued = await self._answer(
            request, unseal(request.refresh_token, found.sealed_successor), found.successor, client
        )
        if found.lineage.unanswered:
            await self._store.mark_answered(digest(request.refresh_token), time)
        return issued

    def _rotation(self, request: Refresh, client: Client, successor: str, time: datetime) -> Rotation:
        return Rotation(
            parent_hash=digest(request.refresh_token),
            successor_hash=digest(successor),
            sealed_successor=seal(request.refresh_token, successor),
            time=time,
            client_id=request.client_id,
            instance_id=request.instance_id,
            scopes=request.scopes,
            address=request.address,
            token_id=self._new_id(),
            access_lifetime=timedelta(seconds=client.access_token_seconds),
            idle_lifetime=timedelta(seconds=client.refresh_idle_seconds),
            event=self._work.outbox.event(events.refreshed(request.client_id)),
        )

    async def _diagnose(
        self, refresh_token: str, presented: RefreshAttempt
    ) -> tuple[StoredRefreshToken | None, RefreshOutcome]:
        token_hash = digest(refresh_token)
        found = await self._store.find(token_hash, presented.time)
        verdict = evaluate(found.lineage if found else None, presented)
        if verdict in (RefreshOutcome.REPLAY, RefreshOutcome.REUSE):
            # Something is to be written: look again under the token's lock, so that repetitions are counted one by one.
            async with self._work.begin() as tx:
                found = await self._store.find_locked(tx, token_hash, presented.time)
                verdict = evaluate(found.lineage if found else None, presented)
                if found:
                    await self._write_down(tx, found, token_hash, verdict, presented)
        if verdict in REFUSED:
            await self._note_refusal(found, verdict, presented.time)
        return found, verdict

    async def _write_down(
        self,
        tx: UnitOfWork,
        found: StoredRefreshToken,
        token_hash: bytes,
        verdict: RefreshOutcome,
        presented: RefreshAttempt,
    ) -> None:
        if verdict is RefreshOutcome.REPLAY:
            await self._store.count_replay(tx, token_hash)
            tx.record(events.grace_replay(found))
        elif verdict is RefreshOutcome.REUSE:
            event = events.reuse_detected(found)
            await self._revoker.end_sessions(tx, found.subject, [found.session_id], presented.time, event)

    async def _note_refusal(self, found: StoredRefreshToken | None, verdict: RefreshOutcome, time: datetime) -> None:
        if found is None or not found.lineage.is_live(time):
            self._refusals.count(f"refresh token: {verdict.name.lower()}")
            return
        await self._denials.record(events.refresh_refused(found, verdict, _refusal(verdict).reason))

    async def _answer(self, request: Refresh, successor: str, grant: AccessGrant, client: Client) -> Issued:
        # A scope that the client has lost since the sign-in is in no new token.
        grant = replace(grant, scopes=grant.scopes & client.scopes)
        try:
            return Issued(await self._writer.write(grant), successor, grant)
        except BaseException:
            # Also when the caller's deadline cut the signature short: the rotation is committed, and the client has
            # nothing but its parent.
            await asyncio.shield(asyncio.create_task(self._owe_answer(request)))
            raise

    async def _owe_answer(self, request: Refresh) -> None:
        try:
            await self._store.mark_unanswered(digest(request.refresh_token))
        except Unavailable:
            _log.warning(
                "an answer is owed and could not be noted: the token has its ordinary grace", client=request.client_id
            )


def _refusal(verdict: RefreshOutcome) -> MeshError:
    match verdict:
        case RefreshOutcome.REUSE:
            return Unauthenticated(
                Reason.REFRESH_REUSED, "this refresh token was used before: its session was ended, sign in again"
            )
        case RefreshOutcome.SCOPE_MISSING:
            return PermissionDenied(Reason.SCOPE_MISSING, "the session lacks a scope that was asked for")
        case RefreshOutcome.SPENDABLE:
            return Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "the token changed under this call: send it again")
        case _:
            # One answer for all causes: a finder of a token learns nothing from it.
            return Unauthenticated(Reason.REFRESH_INVALID, "the refresh token is not valid: sign in again")
