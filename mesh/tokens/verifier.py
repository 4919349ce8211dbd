"""Strict verification of access tokens: the one place that decides whether a string is a token of ours.

Libraries let through what they should not (duplicate members, `typ: JWT`, `exp` as a string, a byte order mark, megabytes), so everything is checked
here before any of them sees the token; only the signature itself is theirs. RFC 8725, sections 3.1 to 3.12.
"""

import base64
import binascii
import re
import time
from collections.abc import Callable

from mesh.errors import Reason, Unauthenticated
from mesh.tokens.claims import Claims, ClaimsError, decode_object, not_before, read_claims
from mesh.tokens.keys import KeySet

TOKEN_LIMIT = 8192
"""Bytes of a token."""
LEEWAY_SECONDS = 60
"""How far clocks may differ; Envoy's value, applied to `exp`, `nbf` and `iat` alike."""
MAX_LIFETIME_SECONDS = 3600
"""The longest that a token may live, from `iat` to `exp`. Revocations are kept this long."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_HEADER = {"alg", "kid", "typ"}
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


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
        """Args:
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
        if len(token) > TOKEN_LIMIT or not _COMPACT.fullmatch(token):
            raise ClaimsError("not a compact JWS")
        signed, _, encoded_signature = token.rpartition(".")
        encoded_header, _, encoded_payload = signed.partition(".")
        header = decode_object(_decode(encoded_header))
        if header.keys() != _HEADER or header["typ"] != "at+jwt":
            raise ClaimsError("not the header of an access token")
        key_id = header["kid"]
        if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
            raise ClaimsError("not a key id")
        payload, signature = _decode(encoded_payload), _decode(encoded_signature)
        key = self._keys.find(key_id)
        if key is None:
            raise UnknownKey(key_id)
        # The algorithm is the key's, never the token's (RFC 8725, section 3.1).
        if header["alg"] != key.algorithm or not key.verifies(signed.encode(), signature):
            raise ClaimsError("not signed by this key")
        return self._check(payload, key_id)

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


def _decode(segment: str) -> bytes:
    """Base64url without padding, in the one spelling that RFC 4648 section 3.5 allows: the spare bits of the last character are zero."""
    try:
        decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except (binascii.Error, ValueError) as error:
        raise ClaimsError("not base64url") from error
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != segment.encode():
        raise ClaimsError("not canonical base64url")
    return decoded
