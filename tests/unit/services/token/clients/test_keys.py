"""Which JWK sets a client may have: strong public keys with ids of their own, and nothing else."""

import json
from typing import Any

import pytest

from mesh.tokens.keys import JwksError
from services.token.clients.keys import client_keys
from tests.kit.clients import RsaMint, jwks, private_jwk
from tests.kit.tokens import Mint

MINT, OTHER, RSA = Mint("k1"), Mint("k2"), RsaMint()


def test_keys_of_both_kinds_are_read_by_their_ids() -> None:
    keys = client_keys(jwks(MINT, OTHER, RSA))
    assert {key_id: key.algorithm for key_id, key in keys.items()} == {"k1": "ES256", "k2": "ES256", "r1": "RS256"}
    assert client_keys("") == {}


def key(**changes: Any) -> str:
    members = {name: value for name, value in (MINT.jwk | changes).items() if value is not None}
    return json.dumps({"keys": [members]})


BAD = {
    "private": json.dumps({"keys": [private_jwk(MINT)]}),
    "private-rsa-prime": json.dumps({"keys": [RSA.jwk | {"p": "AQAB"}]}),
    "symmetric": json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "HS256"}]}),
    "mixed-with-symmetric": json.dumps({"keys": [MINT.jwk, {"kty": "oct", "k": "c2VjcmV0", "kid": "s",
    "alg": "HS256"}]}),
    "okp": json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "o", "alg": "EdDSA"}]}),
    "weak-rsa": jwks(RsaMint(bits=1024)),
    "rsa-exponent-1": json.dumps({"keys": [RSA.jwk | {"e": "AQ"}]}),
    "p-384": key(crv="P-384"),
    "off-the-curve": key(x=MINT.jwk["y"]),
    "id-twice": json.dumps({"keys": [MINT.jwk, OTHER.jwk | {"kid": "k1"}]}),
    "no-id": key(kid=None),
    "id-with-a-path": key(kid="../../dev/null"),
    "id-too-long": key(kid="k" * 65),
    "id-a-number": key(kid=7),
    "no-algorithm": key(alg=None),
    "algorithm-none": key(alg="none"),
    "algorithm-of-the-other-kind": key(alg="RS256"),
    "for-encryption": key(use="enc"),
    "for-signing": key(key_ops=["sign"]),
    "certificate-address": key(x5u="https://elsewhere.example/cert"),
    "certificate": key(x5c=["AA"]),
    "member-twice": jwks(MINT).replace('"kty"', '"kid": "k0", "kty"'),
    "no-set": json.dumps(MINT.jwk),
    "more-than-a-set": json.dumps({"keys": [MINT.jwk], "jku": "https://elsewhere.example"}),
    "empty-set": json.dumps({"keys": []}),
    "keys-no-list": json.dumps({"keys": {"k1": MINT.jwk}}),
    "key-no-object": json.dumps({"keys": ["k1"]}),
    "too-many": json.dumps({"keys": [MINT.jwk | {"kid": f"k{number}"} for number in range(11)]}),
    "no-json": "keys",
    "byte-order-mark": "\ufeff" + jwks(MINT),
    "lone-surrogate": '{"keys": ["\ud800"]}',
    "deep": "[" * 10_000,
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_one_bad_key_spoils_the_set(case: str) -> None:
    with pytest.raises(JwksError) as caught:
        client_keys(BAD[case])
    # What was sent by mistake must not come back in an answer or a log.
    assert private_jwk(MINT)["d"] not in str(caught.value)
