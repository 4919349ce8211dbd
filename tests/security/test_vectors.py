"""The signature layer of the verifier against published vectors: RFC 7515, and Wycheproof (which holds RFC 7520's).

Whole tokens of theirs all fail on `typ`, which would prove nothing. So a vector goes through what the verifier does
with a signature: the spelling of the three segments, strict header JSON, the key as our JWKS reader takes it, the
algorithm pinned to the key, and the signature itself. The files are at `../shared/vectors` beside the project, or where
AUTHMESH_VECTORS says.
"""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mesh.tokens.claims import ClaimsError
from mesh.tokens.jws import read_token
from mesh.tokens.keys import JwksError, VerificationKey, parse_jwks
from tests.kit.tokens import encode

PROJECT = Path(__file__).resolve().parents[2]
VECTORS = Path(os.environ.get("AUTHMESH_VECTORS") or PROJECT.parent / "shared" / "vectors")
BOTH = frozenset({"ES256", "RS256"})

QUIRKS = {
    259: "valid, with an empty payload: no token without claims is one of ours",
    345: "valid (RFC 7520, figure 13), with a `kid` that is none of ours: an address of mail", 349: "as 345",
    346: "the key says PS256, the token PS384", 350: "as 346",
    347: "the key has the algorithm ES521, which is none", 351: "as 347",
    367: "the same bytes as 357, which is valid", 370: "as 367",
    372: "valid in spite of a `?` in a segment", 373: "as 372",
}  # fmt: skip
"""Vectors whose label is no measure of a strict verifier."""


def vectors(name: str) -> list[dict[str, Any]]:
    file = VECTORS / "wycheproof" / name
    if not file.exists():
        pytest.skip(
            f"no {file}: set AUTHMESH_VECTORS to a folder with wycheproof/{name} (testvectors_v1 of "
            f"github.com/C2SP/wycheproof)"
        )
    groups: list[dict[str, Any]] = json.loads(file.read_text())["testGroups"]
    return groups


def is_signed(token: str, keys: dict[str, VerificationKey]) -> bool:
    """Whether the signature layer takes a token, signed by any of these keys."""
    try:
        read = read_token(token, required=frozenset())
    except ClaimsError:
        return False
    return any(read.is_signed_by(key) for key in keys.values())


def key_set(keys: Any) -> dict[str, VerificationKey]:
    """Keys as our reader takes them, each with some `kid`."""
    named = [{"kid": f"k{number}", **key} for number, key in enumerate(keys)]
    return parse_jwks(json.dumps({"keys": named}).encode(), BOTH)


def signature_groups() -> Iterator[tuple[dict[str, Any], dict[str, VerificationKey]]]:
    for group in vectors("json_web_signature_test.json"):
        try:
            yield group, key_set([group.get("public") or group["private"]])
        except JwksError:
            yield group, {}


def test_every_jws_vector_meets_its_label() -> None:
    accepted, refused, without_key = 0, 0, 0
    wrong = []
    for group, keys in signature_groups():
        ours = (group.get("public") or {}).get("alg") in BOTH
        for test in group["tests"]:
            if test["tcId"] in QUIRKS:
                continue
            taken = is_signed(test["jws"], keys)
            # An algorithm that no deployment of ours uses is refused whatever the label says.
            due = test["result"] == "valid" and ours and bool(keys)
            accepted, refused, without_key = accepted + taken, refused + (not taken), without_key + (not keys)
            if taken is not due:
                wrong.append((test["tcId"], test["comment"], test["result"]))
    assert not wrong
    assert accepted >= 3
    assert refused > 300
    assert without_key < 200


def test_the_strict_reading_of_quirks_is_refused() -> None:
    by_id = {test["tcId"]: (test["jws"], keys) for group, keys in signature_groups() for test in group["tests"]}
    for number in (259, 345, 349, 346, 350, 347, 351, 372, 373):
        assert not is_signed(*by_id[number]), QUIRKS[number]
    for copy, original in ((367, 357), (370, 357)):
        assert by_id[copy][0] == by_id[original][0]


def test_the_rs256_example_of_rfc_7520_is_signed_though_its_key_id_is_none_of_ours() -> None:
    by_id = {test["tcId"]: (test["jws"], keys) for group, keys in signature_groups() for test in group["tests"]}
    for number in (345, 349):
        token, keys = by_id[number]
        signed, _, signature = token.rpartition(".")
        (key,) = keys.values()
        raw = base64.urlsafe_b64decode(signature + "==")
        assert key.verifies(signed.encode(), raw)
        assert not key.verifies(signed.encode() + b"x", raw)


def test_every_raw_p256_signature_meets_its_label() -> None:
    counted = 0
    for group in vectors("ecdsa_secp256r1_sha256_p1363_test.json"):
        key = VerificationKey("k", "ES256", load_pem_public_key(group["publicKeyPem"].encode()))
        for test in group["tests"]:
            signed, signature = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
            assert key.verifies(signed, signature) is (test["result"] == "valid"), (test["tcId"], test["comment"])
            counted += 1
    assert counted > 250


@pytest.mark.parametrize("comment", [
    "rejectsValid", "rejectsWrongUse", "rejects1024bitRsaKey", "rejectsPublicExponent1",
    "rejectsKeyWithRocaVulnerability", "mismatchedAlgAndCurve",
    "rejectsModifiedKey", "rejectsDuplicateKid", "key_too_short", "empty_key", "rejectsAesKey",
])  # fmt: skip
def test_key_sets_that_are_no_good_sign_nothing(comment: str) -> None:
    found = 0
    for group in vectors("json_web_key_test.json"):
        for test in group["tests"]:
            if test["comment"] != comment:
                continue
            found += 1
            members = group.get("public") or group["private"]
            try:
                keys = key_set(members.get("keys", [members]))
            except JwksError:
                continue
            assert not is_signed(test["jws"], keys), test["tcId"]
    assert found


# RFC 7515, appendices A.2 and A.3.
_PAYLOAD = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
_RSA = {
    "kty": "RSA", "alg": "RS256", "e": "AQAB",
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS"
    "-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uD"
    "Zlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
}  # fmt: skip
_RSA_SIGNATURE = (
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75v"
    "RK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVm"
    "tVrBp0igcN_IoypGlUPQGe77Rw"
)
_EC = {
    "kty": "EC", "alg": "ES256", "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}  # fmt: skip
_EC_SIGNATURE = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"


@pytest.mark.parametrize(("key", "signature"), [(_RSA, _RSA_SIGNATURE), (_EC, _EC_SIGNATURE)])
def test_the_examples_of_rfc_7515_are_signed_and_no_changed_one_is(key: dict[str, str], signature: str) -> None:
    header = encode(json.dumps({"alg": key["alg"]}, separators=(",", ":")).encode())
    keys = key_set([key])
    assert is_signed(f"{header}.{_PAYLOAD}.{signature}", keys)
    raw = bytearray(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)))
    for place in range(0, len(raw), 7):
        changed = bytes((*raw[:place], raw[place] ^ 1, *raw[place + 1 :]))
        assert not is_signed(f"{header}.{_PAYLOAD}.{encode(changed)}", keys)
    assert not is_signed(f"{header}.{_PAYLOAD[:-4]}.{signature}", keys)
