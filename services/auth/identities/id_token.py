"""What an identity provider signs (OpenID Connect Core 1.0, section 3.1.3.7), judged strictly. Rules only, no I/O."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mesh.tokens.claims import ClaimsError, decode_object, id_claim, not_before, time_claim
from mesh.tokens.jws import FOREIGN_KEY_ID, SignedToken, read_token
from mesh.tokens.verifier import LEEWAY_SECONDS
from services.auth.identities.providers import Provider

# Whatever else a key may sign is not an ID token (RFC 8725, section 3.11).
_TYPES = (None, "JWT")
_TWO_FACTORS = frozenset({"mfa", "otp", "hwk", "swk"})
"""Methods of which one says that a second factor was shown (RFC 8176)."""


@dataclass(frozen=True, slots=True)
class IdToken:
    """An ID token, as it was read. Nothing of it is verified."""

    token: SignedToken
    payload: dict[str, Any]
    issuer: str
    subject: str
    expires_at: int
    """`exp`, Unix seconds."""
    digest: bytes
    """Of the exact text: it is good once."""

    @property
    def key_id(self) -> str:
        """`kid`; empty where there is none."""
        return str(self.token.header.get("kid", ""))

    @property
    def spent_until(self) -> datetime:
        """When no one would accept it any more."""
        return datetime.fromtimestamp(self.expires_at + LEEWAY_SECONDS, UTC)

    @property
    def email(self) -> str:
        """The address that the provider has verified, or empty."""
        email = self.payload.get("email")
        is_verified = self.payload.get("email_verified") in (True, "true")
        return email if isinstance(email, str) and is_verified and len(email) <= 254 else ""

    @property
    def has_two_factors(self) -> bool:
        """Whether the provider says that the person has shown a second factor."""
        amr = self.payload.get("amr")
        return isinstance(amr, list) and any(isinstance(one, str) and one in _TWO_FACTORS for one in amr)

    def fault(self, provider: Provider, nonce: str, now: float) -> str | None:
        """What is wrong with it, the signature aside.

        Args:
            provider: Its issuer.
            nonce: What the client had sent to the provider.
            now: Unix seconds.
        """
        audience = self.payload.get("aud")
        # Alone: one that is for another client too could be that client's to use.
        if isinstance(audience, list) and len(audience) == 1:
            (audience,) = audience
        if not isinstance(audience, str) or audience not in provider.audiences:
            return "it is for another audience, or for several"
        if self.payload.get("azp", audience) != audience:
            return "it was given to another client"
        if now >= self.expires_at + LEEWAY_SECONDS:
            return "it has expired"
        issued_at = time_claim(self.payload, "iat")
        if max(issued_at, not_before(self.payload)) > now + LEEWAY_SECONDS:
            return "it is not valid yet"
        if issued_at < now - provider.max_age_seconds - LEEWAY_SECONDS:
            return f"it is older than {provider.max_age_seconds} s"
        given = self.payload.get("nonce")
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
            return "its nonce is not the one of this sign-in"
        return None


def read_id_token(text: str) -> IdToken:
    """Reads an ID token, every type enforced.

    Raises:
        ClaimsError: it is none.
    """
    token = read_token(text, required=frozenset({"alg"}), key_id=FOREIGN_KEY_ID)
    if token.header.get("typ") not in _TYPES:
        raise ClaimsError("not the header of an ID token")
    payload = decode_object(token.payload)
    issuer = payload.get("iss")
    if not isinstance(issuer, str):
        raise ClaimsError("iss is not an issuer")
    time_claim(payload, "iat")
    not_before(payload)
    return IdToken(
        token=token,
        payload=payload,
        issuer=issuer,
        subject=id_claim(payload, "sub"),
        expires_at=time_claim(payload, "exp"),
        digest=hashlib.sha256(b"id token " + text.encode()).digest(),
    )
