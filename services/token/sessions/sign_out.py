"""Ending sessions and tokens at their holder's wish: RFC 7009, and the list of sessions."""

import uuid
from collections.abc import Awaitable, Callable, Sequence

from mesh.errors import Unauthenticated
from mesh.outbox.work import Work
from mesh.tokens.claims import Claims
from services.token import events
from services.token.revocation.revoker import Revoker
from services.token.sessions.refresh_token import digest, is_refresh_token
from services.token.sessions.store import Session, Store


class SessionManager:
    """Lists and ends sessions."""

    def __init__(
        self,
        work: Work,
        store: Store,
        revoker: Revoker,
        verify: Callable[[str], Awaitable[Claims]],
    ) -> None:
        """Initializes the instance.

        Args:
            work: Of Token.
            store: Keeps the sessions.
            revoker: Ends them.
            verify: The claims of an access token that is good now; raises Unauthenticated, and Unavailable when no one
                can tell.
        """
        self._work = work
        self._store = store
        self._revoker = revoker
        self._verify = verify

    async def revoke_token(self, token: str) -> None:
        """Ends the session of a refresh token, whichever of its line it is; or one access token.

        A token that is not valid any more is not an error.
        """
        if is_refresh_token(token):
            found = await self._store.find(digest(token), self._work.now())
            if found:
                await self._end(found.subject, [found.session_id], "sign_out", client_id=found.own.client_id)
            return
        try:
            claims = await self._verify(token)
        except Unauthenticated:
            return
        async with self._work.begin() as tx:
            await self._revoker.revoke_token(tx, claims, self._work.now())

    async def live_sessions(self, subject: uuid.UUID, before: uuid.UUID | None, limit: int) -> Sequence[Session]:
        """A page of live sessions, newest first, from behind the session `before`."""
        return await self._store.live_sessions(subject, before, limit, self._work.now())

    async def end_session(self, subject: uuid.UUID, session: uuid.UUID) -> None:
        """Ends one session of a person. One that has ended, or is someone else's, is not an error."""
        await self._end(subject, [session], "revoked")

    async def end_all_sessions(self, subject: uuid.UUID, keep: uuid.UUID | None) -> int:
        """Ends all sessions of a person but `keep`. Returns how many."""
        time = self._work.now()
        async with self._work.begin() as tx:
            sessions = [session for session in await self._store.lock_sessions(tx, subject) if session != keep]
            return len(await self._revoker.end_sessions(tx, subject, sessions, time, events.revoked("revoked_all")))

    async def _end(self, subject: uuid.UUID, sessions: Sequence[uuid.UUID], cause: str, *, client_id: str = "") -> None:
        async with self._work.begin() as tx:
            event = events.revoked(cause, client_id)
            await self._revoker.end_sessions(tx, subject, sessions, self._work.now(), event)
