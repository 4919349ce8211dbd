"""Who signed in, as the user pool says it. A verifier of its own: such a token is good for nothing else in the mesh.

https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-id-token.html
"""

import uuid
from dataclasses import dataclass

from mesh.tokens.claims import ClaimsError, decode_object, id_claim, not_before, time_claim
from mesh.tokens.jws import FOREIGN_KEY_ID, read_token
from mesh.tokens.keys import KeySet
from mesh.tokens.verifier import LEEWAY_SECONDS

MAX_AGE_SECONDS = 300
"""It was asked for a moment ago: one that is older was not made for this sign-in."""
_HEADER = frozenset({"alg", "kid"})


@dataclass(frozen=True, slots=True)
class PoolUser:
    """Someone of the user pool."""

    id: uuid.UUID
    """`sub`: the user's id in the mesh, too."""
    email: str
    """Verified, in lower case."""
    name: str
    """What they call themselves, or empty."""


async def verify_id_token(text: str, keys: KeySet, *, issuer: str, client_id: str, now: float) -> PoolUser:
    """Who an ID token is about.

    Args:
        text: The token.
        keys: Of the user pool.
        issuer: The user pool's.
        client_id: Ours.
        now: Unix seconds.

    Raises:
        ClaimsError: it is not a token of this pool for us, of just now, about someone with a verified address.
        Unavailable: KEYS_UNAVAILABLE: the pool's keys can't be read.
    """
    token = read_token(text, required=_HEADER, key_id=FOREIGN_KEY_ID)
    key_id = str(token.header["kid"])
    key = keys.find(key_id)
    if key is None:
        await keys.learn(key_id)
        key = keys.find(key_id)
    if key is None or not token.is_signed_by(key):
        raise ClaimsError("not signed by the user pool")
    claims = decode_object(token.payload)
    if (claims.get("iss"), claims.get("aud"), claims.get("token_use")) != (issuer, client_id, "id"):
        raise ClaimsError("not an ID token of the user pool for this client")
    issued_at = time_claim(claims, "iat")
    if now >= time_claim(claims, "exp") + LEEWAY_SECONDS:
        raise ClaimsError("it has expired")
    if max(issued_at, not_before(claims)) > now + LEEWAY_SECONDS or issued_at < now - MAX_AGE_SECONDS:
        raise ClaimsError("it is not of this moment")
    email, name = claims.get("email"), claims.get("name", "")
    if claims.get("email_verified") not in (True, "true") or not isinstance(email, str) or len(email) > 254:
        raise ClaimsError("its address is not verified")
    try:
        user_id = uuid.UUID(id_claim(claims, "sub"))
    except ValueError:
        raise ClaimsError("sub is not a UUID") from None
    return PoolUser(user_id, email.lower(), name[:100] if isinstance(name, str) else "")
