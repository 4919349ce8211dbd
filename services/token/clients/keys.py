"""The public keys of confidential clients.

A JWK set (RFC 7517), read once as strictly as the tokens that it verifies.
"""

from collections.abc import Mapping
from functools import lru_cache

from mesh.tokens.claims import ClaimsError, decode_object
from mesh.tokens.jws import is_key_id
from mesh.tokens.keys import ANY_ALGORITHM, JwksError, VerificationKey, parse_jwks

KEYS = 10
"""The most keys of one client: what it rotates through."""

# Whatever else a JWK may hold is a private part, a symmetric key, or the address of something to be fetched.
_MEMBERS = frozenset({"kty", "kid", "alg", "use", "key_ops"})
_OF_TYPE = {"EC": _MEMBERS | {"crv", "x", "y"}, "RSA": _MEMBERS | {"n", "e"}}


@lru_cache(maxsize=1024)
def client_keys(jwks: str) -> Mapping[str, VerificationKey]:
    """The keys by their `kid`; none for an empty text.

    Raises:
        JwksError: a key is private, symmetric, weak, of another use or algorithm than ES256 and RS256, has members that
            no public key has, or has no `kid` of its own. One bad key spoils the set.
    """
    if not jwks:
        return {}
    try:
        document = decode_object(jwks.encode())
    except (ClaimsError, UnicodeEncodeError) as error:
        raise JwksError("no JWK set") from error
    members = document.get("keys")
    if document.keys() != {"keys"} or not isinstance(members, list) or len(members) > KEYS:
        raise JwksError(f"no JWK set of at most {KEYS} keys")
    for member in members:
        _check_members(member)
    return parse_jwks(jwks.encode(), ANY_ALGORITHM)


def _check_members(member: object) -> None:
    if not isinstance(member, dict):
        raise JwksError("a key is not an object")
    allowed = _OF_TYPE.get(str(member.get("kty")))
    if allowed is None:
        raise JwksError("a key is neither EC nor RSA")
    if more := member.keys() - allowed:
        # By name only: the value may be a private key that someone sent by mistake.
        raise JwksError(f"a key has members that no public {member['kty']} key has: {', '.join(sorted(more))[:100]}")
    if not is_key_id(member.get("kid")):
        raise JwksError("a key has no kid of 1 to 64 letters, digits, - and _")
