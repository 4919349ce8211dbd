"""The attack list against client assertions, the replay aside: each forgery is refused for its cause, and nothing but
ClaimsError is ever raised."""

import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.tokens.claims import ClaimsError
from services.token.clients.assertion import Fault, read_assertion
from tests.kit.clients import RsaMint, assertion, jwks
from tests.kit.tokens import Mint, encode

ISSUER = "https://issuer.test"
MINT, OTHER, RSA = Mint("k1"), Mint("k2"), RsaMint()
NOW = int(time.time())


def make(mint: Any = MINT, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
    return assertion(
        mint, "backend", changes.pop("aud", ISSUER), header=header, **{"iat": NOW, "exp": NOW + 60} | changes
    )


def good(text: str, keys: str = jwks(MINT)) -> bool:
    try:
        read = read_assertion(text)
    except ClaimsError:
        return False
    return read.verified_by(keys) is not None and read.fault(ISSUER, NOW) is None


@pytest.mark.parametrize("text", [
    make(), make(RSA), make(aud=[ISSUER]), make(header={"typ": None}),
    make(header={"typ": "client-authentication+jwt"}), make(iat=None), make(exp=NOW + 300), make(exp=NOW - 59),
    make(iat=NOW + 59),
    make(nbf=NOW + 59), make(scope="more members are nobody's business"),
    jwt.encode({"iss": "backend", "sub": "backend", "aud": ISSUER, "exp": NOW + 60, "jti": "1"}, MINT.key, "ES256",
    headers={"kid": "k1"}),
])  # fmt: skip
def test_a_good_assertion_is_good_by_several_spellings(text: str) -> None:
    assert good(text, jwks(MINT, RSA))


def test_a_single_key_needs_no_id_and_of_several_one_must_be_named() -> None:
    anonymous = make(header={"kid": None})
    assert good(anonymous, jwks(MINT))
    assert not good(anonymous, jwks(MINT, OTHER))
    assert not good(anonymous, "")
    assert not good(make(header={"kid": "k9"}), jwks(MINT))


NOT_ITS_SIGNATURE = {
    "another-key": make(OTHER, header={"kid": "k1"}),
    "none": make().rpartition(".")[0] + ".AA",
    "alg-none": MINT.sign(b'{"alg":"none","kid":"k1"}',
    b'{"iss":"backend","sub":"backend","aud":"x","jti":"1","exp":9}'),
    "alg-of-the-other-kind": make(header={"alg": "RS256"}),
    "hmac-with-the-public-key": (
        lambda signed: f"{signed}.{encode(hmac.new(jwks(MINT).encode(), signed.encode(), hashlib.sha256).digest())}"
    )(".".join([encode(json.dumps({"alg": "HS256", "kid": "k1"}).encode()), make().split(".")[1]])),
    "ps256": make(RSA, header={"alg": "PS256"}),
    "psychic": make().rpartition(".")[0] + "." + encode(bytes(64)),
    "truncated": make()[:-4],
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_ITS_SIGNATURE)
def test_what_the_client_did_not_sign_is_refused(case: str) -> None:
    assert not good(NOT_ITS_SIGNATURE[case], jwks(MINT, RSA))


UNREADABLE = {
    "garbage": "garbage",
    "empty": "",
    "four-segments": make() + ".AA",
    "too-long": make(filler="x" * 8192),
    "padding": make() + "=",
    "access-token-type": make(header={"typ": "at+jwt"}),
    "type-a-number": make(header={"typ": 1}),
    "type-a-list": make(header={"typ": ["JWT"]}),
    "jwk-in-the-header": make(header={"jwk": MINT.jwk}),
    "jku": make(header={"jku": "https://elsewhere.example"}),
    "crit": make(header={"crit": ["b64"], "b64": False}),
    "kid-a-path": make(header={"kid": "../../dev/null"}),
    "no-alg": make(header={"alg": None}),
    "iss-is-not-sub": make(sub="other"),
    "no-iss": make(iss=None),
    "no-sub": make(sub=None),
    "iss-a-number": make(iss=7, sub=7),
    "no-aud": make(aud=None),
    "aud-a-number": make(aud=7),
    "aud-empty": make(aud=[]),
    "aud-mixed": make(aud=[ISSUER, 7]),
    "no-exp": make(exp=None),
    "exp-a-string": make(exp=str(NOW + 60)),
    "exp-a-bool": make(exp=True),
    "exp-negative": make(exp=-1),
    "exp-too-far": make(exp=2**63),
    "iat-a-string": make(iat="now"),
    "nbf-a-string": make(nbf="now"),
    "no-jti": make(jti=None),
    "jti-empty": make(jti=""),
    "jti-too-long": make(jti="x" * 256),
    "jti-with-a-space": make(jti="a b"),
    "jti-a-number": make(jti=7),
    "member-twice": MINT.sign(
        b'{"alg":"ES256","kid":"k1"}',
        f'{{"iss":"backend","sub":"backend","aud":"{ISSUER}","jti":"1","exp":{NOW + 60},"exp":{NOW + 9}}}'.encode()
    ),
    "float": MINT.sign(b'{"alg":"ES256","kid":"k1"}',
    f'{{"iss":"b","sub":"b","aud":"{ISSUER}","jti":"1","exp":{NOW + 60}.0}}'.encode()),
    "byte-order-mark": MINT.sign(b'{"alg":"ES256","kid":"k1"}', "\ufeff{}".encode()),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_no_assertion_is_not_read(case: str) -> None:
    with pytest.raises(ClaimsError):
        read_assertion(UNREADABLE[case])


@pytest.mark.parametrize(("text", "fault"), [
    (make(aud="https://elsewhere.example"), Fault.AUDIENCE), (make(aud=ISSUER + "/"), Fault.AUDIENCE),
    (make(aud=ISSUER.upper()), Fault.AUDIENCE),
    (make(aud=["https://elsewhere.example"]), Fault.AUDIENCE), (make(aud="https://issuer"), Fault.AUDIENCE),
    (make(aud=["https://elsewhere.example", ISSUER]), Fault.AUDIENCE), (make(aud=[ISSUER, ISSUER]), Fault.AUDIENCE),
    (make(exp=NOW - 60), Fault.EXPIRED), (make(exp=1), Fault.EXPIRED), (make(exp=NOW + 301), Fault.TOO_LONG),
    # What can be shown for long comes first: it is not on record.
    (make(exp=1, aud="https://elsewhere.example"), Fault.EXPIRED),
    (make(exp=NOW + 301, aud="https://elsewhere.example"), Fault.TOO_LONG),
    (make(iat=NOW + 61), Fault.NOT_YET), (make(nbf=NOW + 61), Fault.NOT_YET),
])  # fmt: skip
def test_what_the_client_signed_wrongly_has_its_cause(text: str, fault: Fault) -> None:
    read = read_assertion(text)
    assert read.verified_by(jwks(MINT)) is not None
    assert read.fault(ISSUER, NOW) is fault


@given(
    st.text()
    | st.binary().map(encode)
    | st.tuples(st.binary(), st.binary(), st.binary()).map(lambda parts: ".".join(map(encode, parts)))
)
def test_nothing_else_is_ever_raised(text: str) -> None:
    with pytest.raises(ClaimsError):
        read_assertion(text)


@given(
    st.dictionaries(
        st.sampled_from(["iss", "sub", "aud", "exp", "iat", "nbf", "jti"]),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()),
    )
)
def test_no_claims_make_it_fall_over(claims: dict[str, Any]) -> None:
    try:
        read = read_assertion(make(**claims))
    except ClaimsError:
        return
    read.fault(ISSUER, NOW)
