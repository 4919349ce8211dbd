"""ID tokens of a user pool, and everything that is none."""

import base64
import json
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from mesh.tokens.claims import ClaimsError
from mesh.tokens.keys import KeySet
from services.auth.cognito.id_token import PoolUser, verify_id_token

ISSUER, CLIENT, KEY_ID = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Abc", "client", "a+/b="
KEY, OTHER_KEY = rsa.generate_private_key(65537, 2048), rsa.generate_private_key(65537, 2048)
NOW = 1_800_000_000
SUBJECT = uuid.uuid4()
CLAIMS: Mapping[str, Any] = {
    "iss": ISSUER, "aud": CLIENT, "token_use": "id", "sub": str(SUBJECT), "email": "Ada@Example.com",
    "email_verified": True, "name": "Ada", "iat": NOW, "exp": NOW + 600, "auth_time": NOW,
}  # fmt: skip


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def token(
    changes: Mapping[str, Any] | None = None, key: rsa.RSAPrivateKey = KEY, header: Mapping[str, Any] | None = None
) -> str:
    claims = {name: value for name, value in {**CLAIMS, **(changes or {})}.items() if value is not None}
    signed = f"{encoded(header or {'alg': 'RS256', 'kid': KEY_ID})}.{encoded(claims)}"
    signature = RSAAlgorithm(RSAAlgorithm.SHA256).sign(signed.encode(), key)
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


async def verified(text: str) -> PoolUser:
    jwk = RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True)

    async def fetch() -> bytes:
        return json.dumps({"keys": [{**jwk, "kid": KEY_ID, "alg": "RS256", "use": "sig"}]}).encode()

    keys = KeySet(fetch, algorithms=frozenset({"RS256"}))
    return await verify_id_token(text, keys, issuer=ISSUER, client_id=CLIENT, now=NOW + 1)


async def test_a_good_one_says_who_it_is() -> None:
    assert await verified(token()) == PoolUser(SUBJECT, "ada@example.com", "Ada")
    assert (await verified(token({"name": None, "email_verified": "true"}))).name == ""


@pytest.mark.parametrize("changes", [
    {"iss": f"{ISSUER}/"}, {"iss": None}, {"aud": "another"}, {"aud": [CLIENT]}, {"aud": [CLIENT, "another"]},
    {"aud": None}, {"token_use": "access"}, {"token_use": None}, {"exp": NOW - 60}, {"exp": None}, {"exp": "9"},
    {"iat": NOW + 600}, {"iat": NOW - 3600}, {"iat": None}, {"nbf": NOW + 600}, {"sub": "ada"}, {"sub": None},
    {"email": None}, {"email": 5}, {"email": "a" * 300}, {"email_verified": False}, {"email_verified": None},
])  # fmt: skip
async def test_what_is_not_exactly_right_is_refused(changes: Mapping[str, Any]) -> None:
    with pytest.raises(ClaimsError):
        await verified(token(changes))


@pytest.mark.parametrize("text", [
    token(key=OTHER_KEY), token(header={"alg": "none", "kid": KEY_ID}), token(header={"alg": "HS256", "kid": KEY_ID}),
    token(header={"alg": "RS256"}), token(header={"alg": "RS256", "kid": "unknown"}), "", "a.b.c", token()[:-2],
    token(header={"alg": "RS256", "kid": KEY_ID, "jku": "https://evil.example"}),
])  # fmt: skip
async def test_what_the_pool_has_not_signed_is_refused(text: str) -> None:
    with pytest.raises(ClaimsError):
        await verified(text)
