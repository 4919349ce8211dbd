"""Says whether a token is good now and what it carries (RFC 7662)."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from mesh.errors import Unauthenticated
from mesh.tokens.claims import Claims
from services.token.keys.access_token import scope_and_roles
from services.token.sessions.refresh_token import digest, is_refresh_token
from services.token.sessions.store import Store

INACTIVE: dict[str, Any] = {"active": False}
"""The answer for every token that is not good, whatever the cause (section 2.2)."""


class Introspection:
    """Answers for access tokens from memory, for refresh tokens from the store."""

    def __init__(
        self,
        store: Store,
        verify: Callable[[str], Awaitable[Claims]],
        *,
        issuer: str,
        audience: str,
        clock: Callable[[], datetime],
    ) -> None:
        """Initializes the instance.

        Args:
            store: Keeps the refresh tokens.
            verify: The claims of an access token that is good now; raises Unauthenticated, and Unavailable when no one
                can tell.
            issuer: `iss`.
            audience: `aud`.
            clock: The time.
        """
        self._store = store
        self._verify = verify
        self._issuer = issuer
        self._audience = audience
        self._clock = clock

    async def introspect(self, token: str) -> dict[str, Any]:
        """The members of RFC 7662, section 2.2."""
        if is_refresh_token(token):
            return await self._refresh_token(token)
        try:
            claims = await self._verify(token)
        except Unauthenticated:
            return INACTIVE
        answer = {
            "active": True,
            "iss": self._issuer,
            "sub": claims.subject,
            "aud": self._audience,
            "client_id": claims.client_id,
            **scope_and_roles(claims.scopes, claims.roles),
            "token_type": "Bearer",
            "jti": claims.token_id,
            "iat": claims.issued_at,
            "exp": claims.expires_at,
        }
        if claims.session:
            answer |= {"sid": claims.session, "auth_time": claims.auth_time, "amr": list(claims.amr)}
        return answer

    async def _refresh_token(self, token: str) -> dict[str, Any]:
        time = self._clock()
        found = await self._store.find(digest(token), time)
        if (
            found is None
            or found.lineage.session_is_over
            or found.lineage.rotate_time
            or found.lineage.expire_time <= time
        ):
            return INACTIVE
        return {
            "active": True,
            "iss": self._issuer,
            "sub": str(found.subject),
            "client_id": found.own.client_id,
            **scope_and_roles(found.lineage.session_scopes),
            "iat": int(found.own.issue_time.timestamp()),
            "exp": int(found.lineage.expire_time.timestamp()),
            "sid": str(found.session_id),
        }
