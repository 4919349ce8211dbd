"""Writes access tokens (RFC 9068)."""

import base64
import json
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.token.keys.signer import ActiveKey


@dataclass(frozen=True, slots=True)
class AccessGrant:
    """What one access token says. Two tokens of the same grant differ in nothing but the signature."""

    subject: uuid.UUID
    session_id: uuid.UUID
    client_id: str
    scopes: frozenset[str]
    roles: frozenset[str]
    token_id: uuid.UUID
    issue_time: datetime
    """Whole seconds."""
    expire_time: datetime
    """Whole seconds."""
    auth_time: datetime
    amr: tuple[str, ...]
    refresh_expire_time: datetime
    """When the refresh token that goes with it expires unused. Not in the token."""


@dataclass(frozen=True, slots=True)
class ClientGrant:
    """What an access token says that a client has for itself."""

    client_id: str
    """`sub` and `client_id` (RFC 9068, section 2.2)."""
    scopes: frozenset[str]
    token_id: uuid.UUID
    issue_time: datetime
    """Whole seconds."""
    expire_time: datetime
    """Whole seconds."""


class AccessTokenWriter:
    """Signs grants."""

    def __init__(self, keys: ActiveKey, issuer: str, audience: str) -> None:
        """Initializes the instance.

        Args:
            keys: Know which key signs.
            issuer: `iss`.
            audience: `aud`.
        """
        self._keys = keys
        self._issuer = issuer
        self._audience = audience

    async def write(self, grant: AccessGrant) -> str:
        """The signed token.

        Raises:
            Unavailable: KEYS_UNAVAILABLE or DEPENDENCY_UNAVAILABLE: the key is out of reach.
        """
        payload = {
            "iss": self._issuer,
            "sub": str(grant.subject),
            "aud": self._audience,
            "client_id": grant.client_id,
            **scope_and_roles(grant.scopes, grant.roles),
            "sid": str(grant.session_id),
            "jti": str(grant.token_id),
            "iat": int(grant.issue_time.timestamp()),
            "exp": int(grant.expire_time.timestamp()),
            "auth_time": int(grant.auth_time.timestamp()),
            "amr": list(grant.amr),
        }
        return await self._sign(payload)

    async def write_client(self, grant: ClientGrant) -> str:
        """The signed token of a client itself: no one's session, and no one signed in.

        Raises:
            Unavailable: KEYS_UNAVAILABLE or DEPENDENCY_UNAVAILABLE: the key is out of reach.
        """
        payload = {
            "iss": self._issuer,
            "sub": grant.client_id,
            "aud": self._audience,
            "client_id": grant.client_id,
            **scope_and_roles(grant.scopes),
            "jti": str(grant.token_id),
            "iat": int(grant.issue_time.timestamp()),
            "exp": int(grant.expire_time.timestamp()),
        }
        return await self._sign(payload)

    async def _sign(self, payload: Mapping[str, Any]) -> str:
        signer = await self._keys.active()
        header = {"alg": signer.algorithm, "kid": signer.key_id, "typ": "at+jwt"}
        signed = f"{_segment(header)}.{_segment(payload)}"
        signature = await signer.sign(signed.encode())
        return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def scope_and_roles(scopes: Collection[str], roles: Collection[str] = ()) -> dict[str, Any]:
    """The claims `scope` and `roles`, without those that are empty.

    An empty scope is not a scope (RFC 6749, section 3.3), and validators of RFC 9068 tokens refuse an empty list of
    roles.
    """
    return ({"scope": " ".join(sorted(scopes))} if scopes else {}) | ({"roles": sorted(roles)} if roles else {})


def _segment(content: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).rstrip(b"=").decode()
