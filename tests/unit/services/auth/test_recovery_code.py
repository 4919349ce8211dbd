"""Recovery codes: shown once, stored as digests, typed in any way."""

import secrets
import uuid

from services.auth import recovery_code

USER = uuid.uuid4()


def test_ten_codes_of_120_bits() -> None:
    codes = recovery_code.new_codes(secrets.token_bytes)
    assert len(set(codes)) == 10
    assert all(len(code.replace("-", "")) * 5 == 120 for code in codes)
    assert all(len(group) == 4 for code in codes for group in code.split("-"))


def test_a_code_may_be_typed_in_many_ways() -> None:
    code = "ABCO-EFGI-2345-67BB-KLMN-OPQR"
    stored = recovery_code.digest(USER, code)
    wide = "".join(chr(ord(character) + 0xFEE0) if character != "-" else character for character in code)
    for typed in (code, code.lower(), code.replace("-", ""), code.replace("-", " "), f" {code}\n", wide):
        assert recovery_code.digest(USER, typed) == stored
    # Digits that Base32 does not have, and the letters that they look like.
    assert recovery_code.digest(USER, "ABC0-EFG1-2345-678B-KLMN-OPQR") == stored


def test_a_digest_is_of_one_person() -> None:
    assert recovery_code.digest(USER, "ABCD") != recovery_code.digest(uuid.uuid4(), "ABCD")
