"""What a client signs to prove that it is it (private_key_jwt: RFC 7523, section 3; OpenID Connect Core, section 9).

Rules only, no I/O.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from mesh.tokens.claims import ClaimsError, decode_object, id_claim, not_before, time_claim
from mesh.tokens.jws import SignedToken, read_token
from mesh.tokens.keys import VerificationKey
from mesh.tokens.verifier import LEEWAY_SECONDS
from services.token.clients.keys import client_keys

LIFETIME_SECONDS = 300
"""How far ahead `exp` may be: that long an assertion is remembered, so that it is good once."""

# An access token, or whatever else a key may sign, is not an assertion (RFC 8725, section 3.11). Most libraries write
# `JWT`, some nothing.
_TYPES = (None, "JWT", "client-authentication+jwt")


class Fault(StrEnum):
    """Why an assertion that the client did sign is refused. For the audit trail, never for the caller."""

    AUDIENCE = "audience"
    EXPIRED = "expired"
    TOO_LONG = "too_long"
    NOT_YET = "not_yet"
    REPLAYED = "replayed"

    @property
    def is_lasting(self) -> bool:
        """Whether it can be shown again and again, for longer than a good assertion lives."""
        return self in (Fault.EXPIRED, Fault.TOO_LONG)


@dataclass(frozen=True, slots=True)
class Assertion:
    """An assertion, as it was read. Nothing of it is verified."""

    client_id: str
    """`iss` and `sub`."""
    token_id: str
    """`jti`."""
    expires_at: int
    """`exp`, Unix seconds."""
    token: SignedToken
    payload: dict[str, Any]

    @property
    def spent_until(self) -> datetime:
        """When no one would accept it any more, whether it was used or not."""
        return datetime.fromtimestamp(self.expires_at + LEEWAY_SECONDS, UTC)

    def verified_by(self, jwks: str) -> VerificationKey | None:
        """The key of this set that signed it, if one did. Without a `kid` only a single key is tried."""
        keys = client_keys(jwks)
        key_id = self.token.header.get("kid")
        if key_id is None and len(keys) == 1:
            (key_id,) = keys
        key = keys.get(key_id) if isinstance(key_id, str) else None
        return key if key and self.token.is_signed_by(key) else None

    def fault(self, issuer: str, now: float) -> Fault | None:
        """What is wrong with it now, the signature aside.

        Args:
            issuer: Who it must be for.
            now: Unix seconds.
        """
        if now >= self.expires_at + LEEWAY_SECONDS:
            return Fault.EXPIRED
        if self.expires_at > now + LIFETIME_SECONDS:
            return Fault.TOO_LONG
        # Alone: of an assertion that is for someone else too, they could make use here before the client does
        # (draft-ietf-oauth-rfc7523bis).
        if self.payload.get("aud") not in (issuer, [issuer]):
            return Fault.AUDIENCE
        issued_at = time_claim(self.payload, "iat") if "iat" in self.payload else 0
        return Fault.NOT_YET if max(issued_at, not_before(self.payload)) > now + LEEWAY_SECONDS else None


def read_assertion(text: str) -> Assertion:
    """Reads an assertion, every type enforced.

    Raises:
        ClaimsError: it is none.
    """
    token = read_token(text, required=frozenset({"alg"}))
    if token.header.get("typ") not in _TYPES:
        raise ClaimsError("not the header of an assertion")
    payload = decode_object(token.payload)
    client_id = id_claim(payload, "iss")
    if id_claim(payload, "sub") != client_id:
        raise ClaimsError("iss and sub differ")
    audience = payload.get("aud")
    if not isinstance(audience, str) and not (
        isinstance(audience, list) and audience and all(isinstance(item, str) for item in audience)
    ):
        raise ClaimsError("aud is not an audience")
    if "iat" in payload:
        time_claim(payload, "iat")
    not_before(payload)
    return Assertion(client_id, id_claim(payload, "jti"), time_claim(payload, "exp"), token, payload)
