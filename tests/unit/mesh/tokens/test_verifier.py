"""The attack list against the verifier: each forgery is refused with the contract's reason, and nothing but its own
error is ever raised."""

import hashlib
import hmac
import json
import time
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import Reason, Unauthenticated
from mesh.tokens.verifier import TOKEN_LIMIT, UnknownKey, Verifier
from tests.kit.tokens import AUDIENCE, ISSUER, SESSION, SUBJECT, Mint, encode

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
MINT = Mint()
GOOD = MINT.token(exp=int(time.time()) + 3000)
"""Good for longer than all tests take."""


@pytest.fixture(scope="module")
async def verifier() -> Verifier:
    return await MINT.verifier()


def reason(verifier: Verifier, token: str) -> Reason:
    with pytest.raises(Unauthenticated) as caught:
        verifier.verify(token)
    return caught.value.reason


def dumps(content: Any) -> bytes:
    return json.dumps(content).encode()


def test_a_good_token_says_what_was_put_in(verifier: Verifier) -> None:
    claims = verifier.verify(MINT.token(scope="a b", roles=["admin"], amr=["pwd", "otp"], iat=int(time.time()) - 10))
    assert (claims.subject, claims.session, claims.client_id, claims.key_id) == (SUBJECT, SESSION, "demo", "k1")
    assert claims.scopes == {"a", "b"}
    assert claims.roles == {"admin"}
    assert claims.amr == ("pwd", "otp")
    assert claims.expires_at - claims.issued_at == 610


def test_a_client_s_own_token_has_no_session(verifier: Verifier) -> None:
    claims = verifier.verify(
        MINT.token(sub="backend", client_id="backend", sid=None, auth_time=None, amr=None, roles=None)
    )
    assert (claims.subject, claims.session, claims.auth_time) == ("backend", "", 0)


@pytest.mark.parametrize(
    "algorithm",
    [
        "none",
        "None",
        "nOnE",
        "NONE",
        "",
        "HS256",
        "HS512",
        "RS256",
        "PS256",
        "ES384",
        "ES512",
        "EdDSA",
        "es256",
        1,
        True,
        ["ES256"],
    ],
)
def test_an_algorithm_that_is_not_the_key_s_is_refused(verifier: Verifier, algorithm: Any) -> None:
    assert reason(verifier, MINT.token({"alg": algorithm})) is Reason.TOKEN_INVALID
    unsigned = f"{encode(dumps(MINT.header(alg=algorithm)))}.{encode(dumps(MINT.claims()))}"
    for signature in ("", ".", ".AA"):
        assert reason(verifier, unsigned + signature) is Reason.TOKEN_INVALID


def test_the_public_key_is_no_hmac_secret(verifier: Verifier) -> None:
    public = MINT.key.public_key()
    secrets = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        dumps(MINT.jwk),
    ]
    for algorithm in ("HS256", "ES256"):
        signed = f"{encode(dumps(MINT.header(alg=algorithm)))}.{encode(dumps(MINT.claims()))}"
        for secret in secrets:
            forged = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
            assert reason(verifier, f"{signed}.{encode(forged)}") is Reason.TOKEN_INVALID


@pytest.mark.parametrize("r", [0, 1, ORDER - 1, ORDER, 2**256 - 1])
@pytest.mark.parametrize("s", [0, 1, ORDER - 1, ORDER, 2**256 - 1])
def test_psychic_signatures_are_refused(verifier: Verifier, r: int, s: int) -> None:
    signed = GOOD.rpartition(".")[0]
    assert reason(verifier, f"{signed}.{encode(r.to_bytes(32) + s.to_bytes(32))}") is Reason.TOKEN_INVALID


def test_signatures_of_another_shape_are_refused(verifier: Verifier) -> None:
    signed = GOOD.rpartition(".")[0]
    raw = MINT.raw_signature(signed.encode())
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    for signature in (der, raw[:-1], raw + b"\0", b"\0" + raw, raw[:32], raw + raw, b""):
        assert reason(verifier, f"{signed}.{encode(signature)}") is Reason.TOKEN_INVALID


def test_a_malleated_signature_is_the_same_token_to_whoever_revokes(verifier: Verifier) -> None:
    signed, _, signature = GOOD.rpartition(".")
    raw = MINT.raw_signature(signed.encode())
    other = raw[:32] + (ORDER - int.from_bytes(raw[32:])).to_bytes(32)
    assert verifier.verify(f"{signed}.{encode(other)}").token_id == verifier.verify(GOOD).token_id
    assert signature


@pytest.mark.parametrize("mangle", [
    lambda token: "", lambda token: ".", lambda token: "..", lambda token: "...", lambda token: token + ".",
    lambda token: "." + token,
    lambda token: token + "." + token, lambda token: token.replace(".", ""), lambda token: token.replace(".", "..", 1),
    lambda token: token + "=", lambda token: token + "==", lambda token: token + " ", lambda token: " " + token,
    lambda token: token + "\n",
    lambda token: token[:40] + "\n" + token[40:], lambda token: token[:40] + " " + token[40:],
    lambda token: token + "\x00",
    lambda token: token + "é",
    lambda token: "\ufeff" + token, lambda token: token.rpartition(".")[0],
    lambda token: token.rpartition(".")[0] + ".",
    lambda token: token.replace("-", "+").replace("_", "/") if "-" in token or "_" in token else "+" + token,
    lambda token: json.dumps({"payload": token.split(".")[1], "signatures": [{"protected": token.split(".")[0],
    "signature": token.split(".")[2]}]}),
    lambda token: "Bearer " + token, lambda token: token + "," + token, lambda token: "A" * 1_000_000,
    lambda token: "." * 1_000_000,
])  # fmt: skip
def test_no_other_spelling_is_a_token(verifier: Verifier, mangle: Any) -> None:
    assert reason(verifier, mangle(GOOD)) is Reason.TOKEN_INVALID


@pytest.mark.parametrize("segment", [0, 1, 2])
def test_spare_bits_of_the_last_character_are_zero(verifier: Verifier, segment: int) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # A signature of 64 bytes has spare bits; the JSON segments get some by their length.
    header, payload = dumps(MINT.header()), dumps(MINT.claims())
    segments = MINT.sign(
        header + b" " * (-(len(header) + 1) % 3 + 0), payload + b" " * (-(len(payload) + 1) % 3)
    ).split(".")
    last = segments[segment][-1]
    if len(segments[segment]) % 4 == 0:
        pytest.skip("no spare bits")
    segments[segment] = segments[segment][:-1] + alphabet[alphabet.index(last) + 1]
    assert reason(verifier, ".".join(segments)) is Reason.TOKEN_INVALID


def test_the_limit_is_eight_kilobytes(verifier: Verifier) -> None:
    filler = "x" * 5000
    while len(MINT.token(filler=filler)) <= TOKEN_LIMIT - 4:
        filler += "x" * 3
    assert verifier.verify(MINT.token(filler=filler[:-6]))
    assert reason(verifier, MINT.token(filler=filler + "x" * 9)) is Reason.TOKEN_INVALID


@pytest.mark.parametrize("header", [
    {"kid": None}, {"alg": None}, {"typ": None}, {"typ": "JWT"}, {"typ": "jwt"}, {"typ": "AT+JWT"},
    {"typ": "logout+jwt"},
    {"typ": "application/at+jwt"},
    {"typ": "dpop+jwt"}, {"typ": 1}, {"jku": "https://evil.test/jwks"}, {"x5u": "https://evil.test"}, {"x5c": ["AA"]},
    {"jwk": MINT.jwk},
    {"jwk": {"kty": "oct", "k": "AA"}}, {"crit": []}, {"crit": ["b64"], "b64": False}, {"crit": ["exp"]},
    {"b64": False}, {"b64": True},
    {"zip": "DEF"},
    {"cty": "JWT"}, {"x": 1}, {"kid": ""}, {"kid": 1}, {"kid": True}, {"kid": ["k1"]}, {"kid": {"k1": 1}},
    {"kid": "k" * 3000},
    {"kid": "../../dev/null"}, {"kid": "' OR 1=1 --"}, {"kid": "k1\r\nset a b"}, {"kid": "*"}, {"kid": "k1\x00"},
    {"kid": "K1 "},
])  # fmt: skip
def test_a_header_of_another_shape_is_refused(verifier: Verifier, header: dict[str, Any]) -> None:
    assert reason(verifier, MINT.token(header)) is Reason.TOKEN_INVALID


def test_an_unknown_key_is_told_apart_for_whoever_can_ask_again(verifier: Verifier) -> None:
    with pytest.raises(UnknownKey) as caught:
        verifier.verify(MINT.token({"kid": "k2"}))
    assert caught.value.key_id == "k2"
    assert caught.value.reason is Reason.TOKEN_INVALID


def test_another_issuer_s_key_does_not_sign_for_ours(verifier: Verifier) -> None:
    assert reason(verifier, Mint().token()) is Reason.TOKEN_INVALID


HEADER = dumps(MINT.header())


def payload(**changes: Any) -> bytes:
    return dumps(MINT.claims(**changes))


@pytest.mark.parametrize(("header", "body"), [
    (b'{"alg":"none","alg":"ES256","kid":"k1","typ":"at+jwt"}', payload()),
    (b'{"alg":"ES256","kid":"k2","kid":"k1","typ":"at+jwt"}', payload()),
    (b"\xef\xbb\xbf" + HEADER, payload()),
    (HEADER.decode().encode("utf-16"), payload()),
    (b"[]", payload()), (b"null", payload()), (b'"x"', payload()), (b"", payload()), (b"{", payload()),
    (HEADER + b"x", payload()),
    (HEADER + HEADER, payload()),
    (HEADER, payload()[:-1] + b',"sub":"somebody"}'),
    (HEADER, payload()[:-1] + b',"x":{"a":1,"a":2}}'),
    (HEADER, b"\xef\xbb\xbf" + payload()),
    (HEADER, payload()[:-1] + b',"x":"\xff"}'),
    (HEADER, payload()[:-1] + b',"x":"\\ud800"}'),
    (HEADER, payload()[:-1] + b',"\\udfff":1}'),
    (HEADER, payload()[:-1] + b',"x":NaN}'), (HEADER, payload()[:-1] + b',"x":Infinity}'),
    (HEADER, payload()[:-1] + b',"x":-Infinity}'),
    (HEADER, payload()[:-1] + b',"x":1e400}'), (HEADER, payload()[:-1] + b',"x":1.5}'),
    (HEADER, payload()[:-1] + b',"x":' + b"9" * 5000 + b"}"),
    (HEADER, payload()[:-1] + b',"x":' + b"[" * 2500 + b"]" * 2500 + b"}"),
    (HEADER, payload() + b" x"), (HEADER, b"[" + payload() + b"]"), (HEADER, b"null"), (HEADER, b"true"),
    (HEADER, b"1"), (HEADER, b"x"),
    (HEADER, b"\x00"),
])  # fmt: skip
def test_json_that_two_readers_may_read_differently_is_refused(verifier: Verifier, header: bytes, body: bytes) -> None:
    assert reason(verifier, MINT.sign(header, body)) is Reason.TOKEN_INVALID


NOW = int(time.time())
NO_TIME: list[Any] = [str(NOW + 600), True, False, NOW + 600.5, -1, 0, 2**63, 2**53, 10**19, [], {}, [NOW + 600]]
NO_ID: list[Any] = ["", 1, True, [], {}, ["x"], "a b", "é", "a\u0301", "a\n", "a\x00", "x" * 256]


@pytest.mark.parametrize("claims", [
    *[{name: None} for name in ("iss", "aud", "sub", "client_id", "jti", "iat", "exp")],
    *[{name: value} for name in ("exp", "iat", "nbf", "auth_time") for value in NO_TIME],
    *[{name: value} for name in ("sub", "sid", "client_id", "jti") for value in NO_ID],
    {"iss": ISSUER + "/"}, {"iss": ISSUER.upper()}, {"iss": "https://issuer.test.evil"}, {"iss": [ISSUER]},
    {"iss": True},
    {"aud": [AUDIENCE]}, {"aud": [AUDIENCE, "x"]}, {"aud": AUDIENCE + "/"}, {"aud": "auth"}, {"aud": "authmesh2"},
    {"aud": "AUTHMESH"},
    {"aud": ""}, {"aud": []},
    {"aud": "other-service"},
    {"scope": ["user:read"]}, {"scope": 1}, {"scope": "a  b"}, {"scope": " a"}, {"scope": "a "}, {"scope": "a\tb"},
    {"scope": "a\nb"},
    {"scope": 'a"b'}, {"scope": "é"},
    {"roles": "admin"}, {"roles": [1]}, {"roles": {"admin": True}}, {"roles": [""]}, {"amr": "pwd"}, {"amr": [None]},
    {"exp": NOW + 10 * 365 * 86400}, {"iat": NOW - 4000, "exp": NOW + 600}, {"iat": NOW + 600, "exp": NOW + 601},
    {"iat": NOW + 50, "exp": NOW + 50},
    {"iat": NOW + 120, "exp": NOW + 300}, {"nbf": NOW + 120}, {"cnf": {"jkt": "x"}}, {"cnf": {}},
])  # fmt: skip
def test_claims_of_another_type_or_value_are_refused(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch, claims: dict[str, Any]
) -> None:
    # The claims are relative to when this module was read, which may be many tests ago.
    monkeypatch.setattr(verifier, "_clock", lambda: float(NOW))
    body = MINT.claims() | {"iat": NOW, "exp": NOW + 600}
    for name, value in claims.items():
        body.pop(name) if value is None else body.__setitem__(name, value)
    assert reason(verifier, MINT.sign(HEADER, dumps(body))) is Reason.TOKEN_INVALID


async def test_one_leeway_holds_for_exp_nbf_and_iat() -> None:
    now = 1_800_000_000.0
    verifier = await MINT.verifier()
    verifier._clock = lambda: now
    at = int(now)
    assert verifier.verify(MINT.token(iat=at - 600, exp=at - 59))
    assert reason(verifier, MINT.token(iat=at - 600, exp=at - 60)) is Reason.TOKEN_EXPIRED
    assert verifier.verify(MINT.token(iat=at + 60, exp=at + 600))
    assert reason(verifier, MINT.token(iat=at + 61, exp=at + 600)) is Reason.TOKEN_INVALID
    assert verifier.verify(MINT.token(iat=at, exp=at + 600, nbf=at + 60))
    assert reason(verifier, MINT.token(iat=at, exp=at + 600, nbf=at + 61)) is Reason.TOKEN_INVALID
    assert verifier.verify(MINT.token(iat=at, exp=at + 3600))
    assert reason(verifier, MINT.token(iat=at, exp=at + 3601)) is Reason.TOKEN_INVALID


def test_expired_is_said_only_of_a_token_with_nothing_else_wrong(verifier: Verifier) -> None:
    old: dict[str, Any] = {"iat": NOW - 900, "exp": NOW - 300}
    assert reason(verifier, MINT.token(**old)) is Reason.TOKEN_EXPIRED
    assert reason(verifier, MINT.token(**old, aud="other")) is Reason.TOKEN_INVALID
    assert reason(verifier, Mint().token(**old)) is Reason.TOKEN_INVALID


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def raises_nothing_of_its_own(verifier: Verifier, token: str) -> None:
    with suppress(Unauthenticated):
        verifier.verify(token)


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,60}\.[A-Za-z0-9_-]{0,60}\.[A-Za-z0-9_-]{0,60}"))
def test_any_text_is_refused_in_an_orderly_way(verifier: Verifier, token: str) -> None:
    raises_nothing_of_its_own(verifier, token)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_signed_bytes_are_refused_in_an_orderly_way(verifier: Verifier, header: bytes, body: bytes) -> None:
    raises_nothing_of_its_own(verifier, MINT.sign(header, body))
    raises_nothing_of_its_own(verifier, MINT.sign(HEADER, body))


@given(
    st.sampled_from(
        [
            "iss",
            "sub",
            "aud",
            "client_id",
            "scope",
            "roles",
            "sid",
            "jti",
            "iat",
            "exp",
            "nbf",
            "auth_time",
            "amr",
            "cnf",
            "alg",
            "kid",
            "typ",
        ]
    ),
    JSON,
)
def test_any_value_of_any_claim_is_judged_in_an_orderly_way(verifier: Verifier, name: str, value: Any) -> None:
    raises_nothing_of_its_own(verifier, MINT.sign(HEADER, dumps({**MINT.claims(), name: value})))
    raises_nothing_of_its_own(verifier, MINT.sign(dumps({**MINT.header(), name: value}), payload()))


@given(st.integers(min_value=0, max_value=len(GOOD) - 1), st.characters())
def test_no_changed_character_is_overlooked(verifier: Verifier, position: int, character: str) -> None:
    changed = GOOD[:position] + character + GOOD[position + 1 :]
    if changed != GOOD:
        assert reason(verifier, changed) is Reason.TOKEN_INVALID
