"""Takes signed tokens in compact form (RFC 7515, section 7.1) apart, strictly.

A library sees them only afterwards.

For access tokens (`mesh.tokens.verifier`) and for what clients sign themselves (RFC 7523): size, three segments,
canonical base64url, and a header that is strict JSON with no member but `alg`, `kid` and `typ`. Nothing that a token
brings along (`jwk`, `jku`, `x5u`, `crit`, `b64`, `zip`) is ever looked at.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

from mesh.tokens.claims import ClaimsError, decode_object
from mesh.tokens.keys import VerificationKey

TOKEN_LIMIT = 8192
"""Bytes of a token."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_MEMBERS = frozenset({"alg", "kid", "typ"})
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
FOREIGN_KEY_ID = re.compile(r"[\x21-\x7e]{1,128}")
"""Of other issuers: RFC 7515 leaves it to them, and Cognito's are base64 with `+`, `/` and `=`."""


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A token in its parts. Nothing of it is verified."""

    header: dict[str, Any]
    """At most `alg`, `kid` and `typ`."""
    payload: bytes
    signed: bytes
    signature: bytes

    def is_signed_by(self, key: VerificationKey) -> bool:
        """Whether the signature is this key's.

        The algorithm is the key's, never the token's (RFC 8725, section 3.1).
        """
        return self.header.get("alg") == key.algorithm and key.verifies(self.signed, self.signature)


def read_token(token: str, *, required: frozenset[str] = _MEMBERS, key_id: "re.Pattern[str]" = _KEY_ID) -> SignedToken:
    """Takes a token apart.

    Args:
        token: What came in.
        required: Members that its header must have.
        key_id: What a `kid` looks like. By default 1 to 64 characters of the base64url alphabet, as ours do.

    Raises:
        ClaimsError: it is not such a token.
    """
    if len(token) > TOKEN_LIMIT or not _COMPACT.fullmatch(token):
        raise ClaimsError("not a compact JWS")
    signed, _, signature = token.rpartition(".")
    header, _, payload = signed.partition(".")
    members = decode_object(_decode(header))
    if not required <= members.keys() <= _MEMBERS:
        raise ClaimsError("not the header of such a token")
    if "kid" in members and not (isinstance(members["kid"], str) and key_id.fullmatch(members["kid"])):
        raise ClaimsError("not a key id")
    return SignedToken(members, _decode(payload), signed.encode(), _decode(signature))


def is_key_id(value: object) -> bool:
    """Whether this can be a `kid` of ours: 1 to 64 characters of the base64url alphabet."""
    return isinstance(value, str) and _KEY_ID.fullmatch(value) is not None


def _decode(segment: str) -> bytes:
    """Base64url without padding, in the one spelling that RFC 4648 section 3.5 allows.

    The spare bits of the last character are zero.
    """
    try:
        decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except (binascii.Error, ValueError) as error:
        raise ClaimsError("not base64url") from error
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != segment.encode():
        raise ClaimsError("not canonical base64url")
    return decoded
