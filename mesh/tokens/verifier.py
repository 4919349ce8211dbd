"""Strict verification of access tokens: the one place that decides whether a string is a token of ours.

Libraries let through what they should not (duplicate members, `typ: JWT`, `exp` as a string, a byte order mark,
megabytes), so everything is checked here before any of them sees the token; only the signature itself is theirs. RFC
8725, sections 3.1 to 3.12.
"""

import time
from collections.abc import Callable

from mesh.errors import Reason, Unauthenticated
from mesh.tokens.claims import Claims, ClaimsError, decode_object, not_before, read_claims
from mesh.tokens.jws import TOKEN_LIMIT as TOKEN_LIMIT
from mesh.tokens.jws import read_token
from mesh.tokens.keys import KeySet

LEEWAY_SECONDS = 60
"""How far clocks may differ; Envoy's value, applied to `exp`, `nbf` and `iat` alike."""
MAX_LIFETIME_SECONDS = 3600
"""The longest that a token may live, from `iat` to `exp`. Revocations are kept this long."""


class UnknownKey(Unauthenticated):
    """The token names a key that the set doesn't hold: perhaps a new one."""

    def __init__(self, key_id: str) -> None:
        super().__init__(Reason.TOKEN_INVALID, "the access token is not valid")
        self.key_id = key_id


class Verifier:
    """Verifies access tokens of one issuer for one audience. Does no I/O."""

    def __init__(
        self,
        keys: KeySet,
        issuer: str,
        audience: str,
        *,
        leeway: int = LEEWAY_SECONDS,
        max_lifetime: int = MAX_LIFETIME_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Initializes the instance.

        Args:
            keys: The issuer's keys.
            issuer: `iss`, compared byte by byte.
            audience: `aud`, a single string, compared byte by byte.
            leeway: Seconds that clocks may differ.
            max_lifetime: Seconds from `iat` to `exp` at the most.
            clock: Unix seconds.
        """
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self.leeway = leeway
        self.max_lifetime = max_lifetime
        self._clock = clock

    def verify(self, token: str) -> Claims:
        """The claims of a token that is good now, revocation aside.

        Raises:
            UnknownKey: TOKEN_INVALID, and reading the keys again might change that.
            Unauthenticated: TOKEN_INVALID, or TOKEN_EXPIRED when that is all that is wrong.
        """
        try:
            return self._verify(token)
        except ClaimsError as error:
            raise Unauthenticated(Reason.TOKEN_INVALID, "the access token is not valid") from error

    def has_expired(self, claims: Claims, *, leeway: int | None = None) -> bool:
        """Whether a token that was good has expired since, with the verifier's leeway unless another one is given."""
        return self._clock() >= claims.expires_at + (self.leeway if leeway is None else leeway)

    def _verify(self, token: str) -> Claims:
        found = read_token(token)
        if found.header["typ"] != "at+jwt":
            raise ClaimsError("not the header of an access token")
        key_id: str = found.header["kid"]
        key = self._keys.find(key_id)
        if key is None:
            raise UnknownKey(key_id)
        if not found.is_signed_by(key):
            raise ClaimsError("not signed by this key")
        return self._check(found.payload, key_id)

    def _check(self, encoded: bytes, key_id: str) -> Claims:
        payload = decode_object(encoded)
        claims = read_claims(payload, key_id)
        if payload.get("iss") != self._issuer or payload.get("aud") != self._audience:
            raise ClaimsError("of another issuer or for another audience")
        if not 0 < claims.expires_at - claims.issued_at <= self.max_lifetime:
            raise ClaimsError("lives too long")
        if max(claims.issued_at, not_before(payload)) > self._clock() + self.leeway:
            raise ClaimsError("not valid yet")
        if self.has_expired(claims):
            raise Unauthenticated(Reason.TOKEN_EXPIRED, "the access token has expired: refresh it")
        return claims
