"""One-time codes."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from mesh.errors import InvalidArgument, Reason
from services.auth.account import SignUp
from services.auth.verification import CODE_ATTEMPTS, judge, new_code, typed

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def sign_up(code_hash: bytes | None = b"right", *, expires: timedelta = timedelta(minutes=1), attempts: int = 0) -> SignUp:
    return SignUp(uuid.uuid4(), None, "ada@example.com", "Ada", "hash", code_hash, NOW + expires, attempts, NOW)


def test_a_code_has_eight_digits_with_leading_zeros() -> None:
    assert new_code(lambda limit: 42) == "00000042"
    assert new_code(lambda limit: limit - 1) == "99999999"


@pytest.mark.parametrize("code", [" 1234-5678 ", "12345678\n", "1234\u00a05678", "12\u200b345678", "１２３４５６７８"])
def test_a_code_may_be_typed_and_pasted_in_many_ways(code: str) -> None:
    assert typed(code) == "12345678"


@pytest.mark.parametrize("code", ["1234567", "123456789", "1234567x", "", " ", "²²²²²²²²x", "code 12345678"])
def test_what_is_not_eight_digits_is_no_code(code: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        typed(code)
    assert (refused.value.reason, refused.value.violations[0].field) == (Reason.CODE_INVALID, "code")


def test_the_sign_up_whose_code_it_is_counts() -> None:
    mine, strangers = sign_up(b"mine"), sign_up(b"strangers")
    assert judge([strangers, mine], b"mine", NOW).verified is mine


def test_a_wrong_code_counts_against_every_open_sign_up() -> None:
    both = [sign_up(), sign_up(b"other")]
    verdict = judge(both, b"wrong", NOW)
    assert verdict.verified is None
    assert list(verdict.tried) == both


def test_expired_used_up_and_never_sent_codes_are_no_codes() -> None:
    dead = [sign_up(expires=timedelta(0)), sign_up(attempts=CODE_ATTEMPTS), sign_up(None)]
    verdict = judge(dead, b"right", NOW)
    assert verdict.verified is None
    assert verdict.tried == ()


def test_the_last_attempt_still_counts() -> None:
    assert judge([sign_up(attempts=CODE_ATTEMPTS - 1)], b"right", NOW).verified
