"""Which key sets are believed, and when they are read."""

import asyncio
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from mesh.errors import Reason, Unavailable
from mesh.tokens.keys import JWKS_LIMIT, REFETCH_SECONDS, JwksError, KeySet, parse_jwks
from tests.kit.tokens import Mint

MINT = Mint()
RSA = rsa.generate_private_key(65537, 2048)
BOTH = frozenset({"ES256", "RS256"})


def jwks(*keys: Any) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def rsa_jwk(key: rsa.RSAPublicKey, **changes: Any) -> dict[str, Any]:
    members: dict[str, Any] = RSAAlgorithm.to_jwk(key, as_dict=True)
    return (
        {name: value for name, value in members.items() if name != "key_ops"} | {"kid": "r1", "alg": "RS256"} | changes
    )


def ec_jwk(curve: ec.EllipticCurve, **changes: Any) -> dict[str, Any]:
    members: dict[str, Any] = ECAlgorithm.to_jwk(ec.generate_private_key(curve).public_key(), as_dict=True)
    return members | {"kid": "e1", "alg": "ES256"} | changes


def test_our_own_set_is_read() -> None:
    keys = parse_jwks(jwks(MINT.jwk))
    assert keys["k1"].algorithm == "ES256"
    assert parse_jwks(jwks(MINT.jwk, rsa_jwk(RSA.public_key())), BOTH).keys() == {"k1", "r1"}


@pytest.mark.parametrize("document", [
    b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[]}', b'{"keys":[1]}', b'{"keys":[],"keys":[]}', b"\xff",
    b" " * (JWKS_LIMIT + 1),
    jwks({**MINT.jwk, "kid": None}), jwks({**MINT.jwk, "kid": ""}), jwks({**MINT.jwk, "alg": None}), jwks({**MINT.jwk,
    "alg": "none"}),
    jwks({**MINT.jwk, "alg": "HS256"}), jwks({**MINT.jwk, "alg": "ES384"}), jwks({**MINT.jwk, "alg": "RS256"}),
    jwks({**MINT.jwk, "use": "enc"}),
    jwks({**MINT.jwk, "key_ops": ["sign"]}), jwks({**MINT.jwk, "d": "AA"}), jwks({**MINT.jwk, "x": "AA"}),
    jwks({**MINT.jwk, "y": MINT.jwk["x"]}),
    jwks({**MINT.jwk, "crv": "P-384"}), jwks(MINT.jwk, MINT.jwk), jwks(MINT.jwk, {"kty": "oct", "k": "AAAA",
    "kid": "o", "alg": "HS256"}),
    jwks(MINT.jwk, {"kty": "oct", "k": "AAAA", "kid": "o", "alg": "ES256"}),
    jwks(ec_jwk(ec.SECP384R1())), jwks(ec_jwk(ec.SECP256K1())),
])  # fmt: skip
def test_a_set_with_anything_wrong_is_not_believed_at_all(document: bytes) -> None:
    with pytest.raises(JwksError):
        parse_jwks(document)


@pytest.mark.parametrize("key", [
    rsa_jwk(rsa.generate_private_key(65537, 1024).public_key()),
    rsa_jwk(rsa.generate_private_key(3, 2048).public_key()),
    rsa_jwk(RSA.public_key(), e="AQ"), rsa_jwk(RSA.public_key(), alg="ES256"), rsa_jwk(RSA.public_key(), kty="EC"),
    rsa_jwk(RSA.public_key(), d="AA"),
])  # fmt: skip
def test_weak_rsa_keys_are_refused(key: dict[str, Any]) -> None:
    with pytest.raises(JwksError):
        parse_jwks(jwks(key), BOTH)


def test_an_algorithm_that_the_deployment_does_not_use_is_refused() -> None:
    with pytest.raises(JwksError):
        parse_jwks(jwks(rsa_jwk(RSA.public_key())))


class Issuer:
    """Answers with a key set, or doesn't."""

    def __init__(self, *mints: Mint) -> None:
        self.mints = list(mints)
        self.asked = 0
        self.down = False
        self.now = 0.0
        self.keys = KeySet(self.fetch, clock=lambda: self.now)

    async def fetch(self) -> bytes:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "test")
        return jwks(*(mint.jwk for mint in self.mints))


async def test_an_unknown_key_is_asked_for_once_for_all_callers() -> None:
    issuer = Issuer(MINT)
    await asyncio.gather(*(issuer.keys.learn("k1") for _ in range(20)))
    assert issuer.asked == 1
    assert issuer.keys.find("k1")


async def test_a_flood_of_forged_key_ids_does_not_storm_the_issuer() -> None:
    issuer = Issuer(MINT)
    for number in range(1000):
        issuer.now += 0.001
        await issuer.keys.learn(f"forged-{number}")
    assert issuer.asked == 1
    issuer.mints.append(Mint("k2"))
    issuer.now += REFETCH_SECONDS
    await issuer.keys.learn("k2")
    assert issuer.keys.find("k2")


async def test_the_last_good_set_survives_an_outage_and_nonsense() -> None:
    issuer = Issuer(MINT)
    await issuer.keys.refresh()
    issuer.down = True
    await issuer.keys.refresh()
    assert issuer.keys.find("k1")
    issuer.down, issuer.mints = False, [MINT, MINT]
    await issuer.keys.refresh()
    assert issuer.keys.find("k1")


async def test_a_key_that_left_the_set_is_gone() -> None:
    issuer = Issuer(MINT, Mint("k2"))
    await issuer.keys.refresh()
    issuer.mints.pop()
    await issuer.keys.refresh()
    assert issuer.keys.find("k2") is None


async def test_nobody_can_tell_about_an_unknown_key_while_the_issuer_is_away() -> None:
    issuer = Issuer(MINT)
    issuer.down = True
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            await issuer.keys.learn("k1")
        assert caught.value.reason is Reason.KEYS_UNAVAILABLE
    assert issuer.asked == 1
