"""One corpus of forged and mistaken credentials, for the process and for the sidecar alike.

A case is named `group.detail`. All cases of a group meet the same fate, so that a group can be one row of the table in
docs/security.md.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.kit.tokens import AUDIENCE, ISSUER, Mint, encode

INVALID = "UNAUTHENTICATED TOKEN_INVALID"
MISSING = "UNAUTHENTICATED TOKEN_MISSING"
EXPIRED = "UNAUTHENTICATED TOKEN_EXPIRED"
OK = "OK"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class Forger(Mint):
    """An issuer whose key the mesh trusts, and who has no scruples. A token with nothing changed is good for
    ListSessions."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, key_id: str) -> None:
        super().__init__(key_id)
        self.key = key

    def claims(self, **changes: Any) -> dict[str, Any]:
        return super().claims(**({"scope": "session:manage"} | changes))

    def unsigned(self, header: Mapping[str, Any] | None = None) -> str:
        """Header and payload, to be signed in some other way."""
        return f"{encode(dumps(self.header(**(header or {}))))}.{encode(dumps(self.claims()))}"


@dataclass(frozen=True)
class Case:
    """A credential and what the process says of it."""

    name: str
    authorization: tuple[str, ...]
    """Values of the metadata key."""
    expected: str = INVALID

    @property
    def group(self) -> str:
        return self.name.partition(".")[0]


def dumps(content: Any) -> bytes:
    return json.dumps(content).encode()


def corpus(forger: Forger) -> list[Case]:
    """Every row of the attack list that a credential can carry."""
    cases = [
        *_good(forger),
        *_signatures(forger),
        *_algorithms(forger),
        *_headers(forger),
        *_json(forger),
        *_spellings(forger),
    ]
    cases += [*_claims(forger), *_times(forger), *_metadata(forger), *_other_tokens(forger)]
    assert len({case.name for case in cases}) == len(cases)
    return cases


def _case(name: str, token: str, expected: str = INVALID) -> Case:
    return Case(name, (f"Bearer {token}",), expected)


def _good(forger: Forger) -> Iterator[Case]:
    yield _case("good.plain", forger.token(), OK)
    yield _case("good.with-unknown-claims", forger.token(act={"sub": "x"}, vendor=[1, {"a": "b"}]), OK)
    yield _case("good.8-kib", forger.token(filler="x" * 5500), OK)
    signed, _, _ = forger.token().rpartition(".")
    raw = forger.raw_signature(signed.encode())
    # Another spelling of the same signature is the same token: revocation goes by its ids.
    malleated = raw[:32] + (ORDER - int.from_bytes(raw[32:])).to_bytes(32)
    yield _case("good.malleated-signature", f"{signed}.{encode(malleated)}", OK)


def _signatures(forger: Forger) -> Iterator[Case]:
    signed = forger.unsigned()
    raw = forger.raw_signature(signed.encode())
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    wrong = {"der": der, "truncated": raw[:-1], "shifted": b"\0" + raw, "half": raw[:32], "doubled": raw + raw}
    for name, signature in wrong.items():
        yield _case(f"signature-shape.{name}", f"{signed}.{encode(signature)}")
    yield _case("signature-extended.by-a-byte", f"{signed}.{encode(raw + bytes(1))}")
    for r in (0, 1, ORDER - 1, ORDER, 2**256 - 1):
        for s in (0, 1, ORDER - 1, ORDER, 2**256 - 1):
            yield _case(f"psychic-signature.{r:x}-{s:x}", f"{signed}.{encode(r.to_bytes(32) + s.to_bytes(32))}")
    yield _case("signature.empty", f"{signed}.")
    yield _case("signature.of-another-key", Forger(ec.generate_private_key(ec.SECP256R1()), forger.key_id).token())
    yield _case("signature.of-another-token", f"{forger.unsigned()}x.{encode(raw)}")


def _algorithms(forger: Forger) -> Iterator[Case]:
    for algorithm in ("none", "None", "nOnE", "NONE", ""):
        for signature in ("", "AA"):
            yield _case(
                f"alg-none.{algorithm or 'empty'}-{signature or 'unsigned'}",
                f"{forger.unsigned({'alg': algorithm})}.{signature}",
            )
    swapped: list[Any] = ["HS256", "HS512", "RS256", "PS256", "ES384", "ES512", "EdDSA", "es256", 1, ["ES256"], None]
    for other in swapped:
        yield _case(f"alg-swapped.{other}", forger.token({"alg": other}))
    public = forger.key.public_key()
    secrets = {
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "point": public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        "jwk": dumps(forger.jwk),
    }
    for name, secret in secrets.items():
        signed = forger.unsigned({"alg": "HS256"})
        yield _case(
            f"alg-confusion.{name}", f"{signed}.{encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"
        )
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.hashes import SHA256

    signed = forger.unsigned({"alg": "RS256"})
    stranger = rsa.generate_private_key(65537, 2048).sign(signed.encode(), padding.PKCS1v15(), SHA256())
    yield _case("alg-confusion.rsa", f"{signed}.{encode(stranger)}")


def _headers(forger: Forger) -> Iterator[Case]:
    for name, typ in {
        "missing": None,
        "jwt": "JWT",
        "id-token": "id_token+jwt",
        "logout": "logout+jwt",
        "dpop": "dpop+jwt",
    }.items():
        yield _case(f"typ.{name}", forger.token({"typ": typ}))
    yield _case("typ.media-type", forger.token({"typ": "application/at+jwt"}))
    yield _case("typ.upper-case", forger.token({"typ": "AT+JWT"}))
    yield _case("typ.number", forger.token({"typ": 1}))
    yield _case("kid-missing.absent", forger.token({"kid": None}))
    yield _case("kid-missing.empty", forger.token({"kid": ""}))
    for name, kid in {
        "unknown": "nobody",
        "path": "../../dev/null",
        "sql": "' OR 1=1 --",
        "redis": "*\r\nFLUSHALL",
        "nul": "k\x00",
    }.items():
        yield _case(f"kid.{name}", forger.token({"kid": kid}))
    yield _case("kid.long", forger.token({"kid": "k" * 5000}))
    yield _case("kid.padded", forger.token({"kid": forger.key_id + " "}))
    for name, value in {"number": 1, "list": [forger.key_id], "object": {forger.key_id: 1}}.items():
        yield _case(f"kid-type.{name}", forger.token({"kid": value}))
    keys = {
        "jku": "https://evil.test/jwks", "x5u": "https://evil.test/x", "x5c": ["AA"], "jwk": forger.jwk, "zip": "DEF",
        "cty": "JWT", "x": 1,
    }  # fmt: skip
    for name, value in keys.items():
        yield _case(f"header-member.{name}", forger.token({name: value}))
    yield _case("header-member.jwk-oct", forger.token({"jwk": {"kty": "oct", "k": "AA"}}))
    yield _case("header-member.b64-false", forger.token({"b64": False}))
    stranger = Forger(ec.generate_private_key(ec.SECP256R1()), "evil")
    yield _case("header-key.jwk", stranger.token({"jwk": stranger.jwk}))
    yield _case("header-key.jwk-of-our-kid", stranger.token({"jwk": stranger.jwk, "kid": forger.key_id}))
    for name, crit in {"empty": [], "unknown": ["exp"], "b64": ["b64"]}.items():
        yield _case(f"crit.{name}", forger.token({"crit": crit}))


def _json(forger: Forger) -> Iterator[Case]:
    header, body = dumps(forger.header()), dumps(forger.claims())
    kid = json.dumps(forger.key_id).encode()
    twice = b'{"alg":"none","alg":"ES256","kid":' + kid + b',"typ":"at+jwt"}'
    yield _case("json-duplicate.alg", forger.sign(twice, body))
    yield _case("json-duplicate.kid", forger.sign(b'{"alg":"ES256","kid":"x","kid":' + kid + b',"typ":"at+jwt"}', body))
    yield _case("json-duplicate.sub", forger.sign(header, body[:-1] + b',"sub":"somebody"}'))
    yield _case("json-duplicate.nested", forger.sign(header, body[:-1] + b',"x":{"a":1,"a":2}}'))
    yield _case("json-bom.header", forger.sign(b"\xef\xbb\xbf" + header, body))
    yield _case("json-bom.payload", forger.sign(header, b"\xef\xbb\xbf" + body))
    yield _case("json-encoding.utf-16", forger.sign(header.decode().encode("utf-16"), body))
    yield _case("json-encoding.not-utf-8", forger.sign(header, body[:-1] + b',"x":"\xff"}'))
    for name, raw in {"surrogate": rb'"\ud800"', "surrogate-in-key": rb'{"\udfff":1}'}.items():
        yield _case(f"json-surrogate.{name}", forger.sign(header, body[:-1] + b',"x":' + raw + b"}"))
    for name, raw in {
        "nan": b"NaN",
        "infinity": b"Infinity",
        "minus-infinity": b"-Infinity",
        "1e400": b"1e400",
    }.items():
        yield _case(f"json-number.{name}", forger.sign(header, body[:-1] + b',"x":' + raw + b"}"))
    yield _case("json-fraction.float", forger.sign(header, body[:-1] + b',"x":1.5}'))
    yield _case("json-huge-number.5000-digits", forger.sign(header, body[:-1] + b',"x":' + b"9" * 5000 + b"}"))
    yield _case("json-nesting.2500", forger.sign(header, body[:-1] + b',"x":' + b"[" * 2500 + b"]" * 2500 + b"}"))
    for name, raw in {"list": b"[]", "null": b"null", "string": b'"x"', "empty": b"", "half": b"{"}.items():
        yield _case(f"json-shape.header-{name}", forger.sign(raw, body))
        yield _case(f"json-shape.payload-{name}", forger.sign(header, raw))
    yield _case("json-trailing.header", forger.sign(header + b"x", body))
    yield _case("json-trailing.payload", forger.sign(header, body + b" x"))


def _spellings(forger: Forger) -> Iterator[Case]:
    token = forger.token()
    head, payload, signature = token.split(".")
    yield _case("segments.two", f"{head}.{payload}")
    yield _case("segments.one", head)
    yield _case("segments.none", "...")
    yield _case("segments.doubled", f"{token}.{token}")
    yield _case("segments.no-payload", f"{head}..{signature}")
    yield _case(
        "segments.json-serialization",
        json.dumps({"payload": payload, "signatures": [{"protected": head, "signature": signature}]}),
    )
    yield _case("segments.nested", forger.sign(dumps(forger.header(cty="JWT")), token.encode()))
    yield _case("dots.after", token + ".")
    yield _case("dots.after-twice", token + "..")
    yield _case("dots.before", "." + token)
    yield _case("padding.signature", token + "==")
    yield _case("padding-inside.header", f"{head}=.{payload}.{signature}")
    last = signature[:-1] + _ALPHABET[_ALPHABET.index(signature[-1]) + 1]
    yield _case("spare-bits.signature", f"{head}.{payload}.{last}")
    yield _case("white-space.inside", f"{head}.{payload}. {signature}")
    yield _case("white-space.before", " " + token)
    yield _case("white-space.words", token + " x")
    plus = next(found for number in range(1000) if "-" in (found := forger.token(jti=f"t{number}")).rpartition(".")[2])
    signed, _, end = plus.rpartition(".")
    yield _case("alphabet.plus", f"{signed}.{end.replace('-', '+')}")
    yield _case("junk.comma-token", f"{token},{token}")
    yield _case("junk.scheme-twice", "Bearer " + token)
    yield _case("junk-before.percent", "%" + token)
    yield _case("size.9-kib", forger.token(filler="x" * 6500))
    yield _case("size.12-kib", forger.token(filler="x" * 8800))


def _claims(forger: Forger) -> Iterator[Case]:
    for name in ("sub", "client_id", "jti", "iat"):
        yield _case(f"claim-missing.{name}", forger.token(None, **{name: None}))
    for name in ("iss", "aud", "exp"):
        yield _case(f"claim-missing-known.{name}", forger.token(None, **{name: None}))
    for name in ("sub", "sid", "client_id", "jti"):
        for kind, value in {"empty": "", "space": "a b", "long": "x" * 256}.items():
            yield _case(f"claim-value.{name}-{kind}", forger.token(None, **{name: value}))
        group = "claim-type-known" if name in ("sub", "jti") else "claim-type"
        for kind, wrong in {"number": 1, "list": ["x"]}.items():
            yield _case(f"{group}.{name}-{kind}", forger.token(None, **{name: wrong}))
    yield _case("claim-unicode.nfc", forger.token(sub="é"))
    yield _case("claim-unicode.nfd", forger.token(sub="e\u0301"))
    scopes: dict[str, Any] = {
        "list": ["session:manage"], "number": 1, "two-spaces": "a  session:manage", "leading": " session:manage",
        "tab": "a\tsession:manage",
        "quote": 'session:manage a"b',
    }  # fmt: skip
    for name, scope in scopes.items():
        yield _case(f"scope-form.{name}", forger.token(scope=scope))
    roles: dict[str, Any] = {"string": "admin", "number": [1], "object": {"admin": True}}
    for name, role in roles.items():
        yield _case(f"roles-form.{name}", forger.token(roles=role))
    yield _case("cnf.jkt", forger.token(cnf={"jkt": "x"}))
    yield _case("cnf.certificate", forger.token(cnf={"x5t#S256": "x"}))
    for name, value in {
        "slash": ISSUER + "/",
        "case": ISSUER.upper(),
        "other": "https://issuer.test.evil",
        "prefix": ISSUER[:-1],
    }.items():
        yield _case(f"issuer.{name}", forger.token(iss=value))
    yield _case("issuer.list", forger.token(iss=[ISSUER]))
    for name, value in {
        "other": "somebody",
        "prefix": "auth",
        "suffix": AUDIENCE + "2",
        "case": AUDIENCE.upper(),
        "empty": "",
    }.items():
        yield _case(f"audience.{name}", forger.token(aud=value))
    yield _case("audience-list.one", forger.token(aud=[AUDIENCE]))
    yield _case("audience-list.two", forger.token(aud=["somebody", AUDIENCE]))
    yield _case("audience-url.slash", forger.token(aud=AUDIENCE + "/"))
    yield _case("audience-url.scheme", forger.token(aud="https://" + AUDIENCE))


def _times(forger: Forger) -> Iterator[Case]:
    now = int(time.time())
    yield _case("expired.long-ago", forger.token(iat=now - 900, exp=now - 300), EXPIRED)
    yield _case("expired.just-beyond-the-leeway", forger.token(iat=now - 900, exp=now - 62), EXPIRED)
    yield _case("leeway.exp", forger.token(iat=now - 900, exp=now - 20), OK)
    yield _case("leeway.nbf", forger.token(nbf=now + 20), OK)
    yield _case("not-yet.nbf", forger.token(nbf=now + 120))
    yield _case("iat-future.two-minutes", forger.token(iat=now + 120, exp=now + 300))
    yield _case("lifetime-from-now.ten-years", forger.token(exp=now + 10 * 365 * 86_400))
    yield _case("lifetime.two-hours", forger.token(iat=now - 3600, exp=now + 3600))
    yield _case("lifetime.beyond-64-bits", forger.token(exp=2**63))
    yield _case("lifetime.negative", forger.token(iat=now + 50, exp=now + 40))
    yield _case("time-lenient.exp-float", forger.token(exp=now + 600.5))
    for name, value in {"true": True, "string": str(now + 600), "list": [now + 600], "object": {}}.items():
        yield _case(f"time-type.exp-{name}", forger.token(exp=value))
    yield _case("time-past.exp-zero", forger.token(exp=0))
    yield _case("time-past.exp-negative", forger.token(exp=-1))
    for kind, value in {"string": str(now), "bool": True, "negative": -1, "float": now + 0.5, "huge": 2**63}.items():
        yield _case(f"time-unread.auth_time-{kind}", forger.token(auth_time=value))
        yield _case(
            f"{'time-lenient' if kind in ('float', 'huge') else 'time-type'}.iat-{kind}", forger.token(iat=value)
        )
    yield _case("time-type.nbf-string", forger.token(nbf=str(now)))


def _metadata(forger: Forger) -> Iterator[Case]:
    token = forger.token()
    yield Case("none.absent", (), MISSING)
    for name, value in {"empty": "", "basic": "Basic YTpi", "bare": token}.items():
        yield Case(f"none.{name}", (value,), MISSING)
    yield Case("scheme-other.token", (f"Token {token}",), MISSING)
    for name in ("bearer", "BEARER", "bEARER"):
        yield Case(f"scheme-case.{name}", (f"{name} {token}",), OK)
    yield Case("none.no-space", (f"Bearer{token}",), MISSING)
    yield Case("scheme-other.x-bearer", (f"xBearer {token}",), MISSING)
    yield Case("none.second-scheme", (f"Basic YTpi, Bearer {token}",), MISSING)
    yield Case("twice.same", (f"Bearer {token}", f"Bearer {token}"), INVALID)
    yield Case("twice.good-first", (f"Bearer {token}", "Bearer x"), INVALID)
    yield Case("twice.good-last", ("Bearer x", f"Bearer {token}"), INVALID)


def _other_tokens(forger: Forger) -> Iterator[Case]:
    now = int(time.time())
    yield _case("refresh-token.as-access-token", "amrt_" + "A" * 43)
    client_token = {"iss": ISSUER, "sub": "demo", "aud": "demo", "iat": now, "exp": now + 600, "nonce": "n"}
    yield _case("id-token.ours", forger.sign(dumps(forger.header(typ="JWT")), dumps(client_token)))
    cognito = client_token | {
        "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_x",
        "token_use": "access",
    }
    yield _case("id-token.cognito", forger.sign(dumps(forger.header()), dumps(cognito)))
    assertion = {"iss": "backend", "sub": "backend", "aud": ISSUER, "jti": "j", "iat": now, "exp": now + 60}
    yield _case("id-token.client-assertion", forger.sign(dumps(forger.header(typ="JWT")), dumps(assertion)))
