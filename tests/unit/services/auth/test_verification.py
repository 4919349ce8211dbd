"""One-time codes, and what they prove."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from mesh.errors import InvalidArgument, Reason
from services.auth.account import SentCode, SignUp
from services.auth.verification import CODE_ATTEMPTS, Code, new_code, proven, short, typed

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def sign_up(*, attempts: int = 1) -> SignUp:
    return SignUp(uuid.uuid4(), None, "ada@example.com", "Ada", "hash", attempts, NOW)


def sent(to: SignUp, rest: str = "") -> SentCode:
    return SentCode(to.email, b"digest", rest, to.user_id, NOW + timedelta(minutes=1))


def test_a_code_has_digits_with_leading_zeros() -> None:
    assert str(new_code(lambda limit: 42)) == "0000004200000042"
    assert str(short(new_code(lambda limit: 42))) == "00000042"
    assert str(new_code(lambda limit: limit - 1)) == "9" * 16


@pytest.mark.parametrize("code", [" 1234-5678 ", "12345678\n", "1234\u00a05678", "12\u200b345678", "１２３４５６７８"])
def test_a_code_may_be_typed_and_pasted_in_many_ways(code: str) -> None:
    assert typed(code) == Code("12345678", "")
    assert typed(f"{code} 8765-4321") == Code("12345678", "87654321")


@pytest.mark.parametrize(
    "code",
    ["1234567", "123456789", "123456781234567", "12345678123456789", "1234567x", "", " ", "²²²²²²²²x", "code 12345678"],
)
def test_what_is_not_eight_or_sixteen_digits_is_no_code(code: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        typed(code)
    assert (refused.value.reason, refused.value.violations[0].field) == (Reason.CODE_INVALID, "code")


def test_a_short_code_is_good_for_its_sign_up_alone() -> None:
    mine, strangers = sign_up(), sign_up()
    code = typed("12345678")
    assert proven([sent(mine)], code, None) == mine.user_id
    assert proven([sent(mine)], code, [mine]) == mine.user_id
    assert proven([sent(strangers)], code, [mine]) is None
    assert proven([sent(mine)], code, []) is None
    assert proven([], code, [mine]) is None


def test_a_long_code_is_good_for_the_sign_up_whose_password_comes_with_it_and_for_none_without() -> None:
    mine, strangers = sign_up(), sign_up()
    code = typed("1234567887654321")
    assert proven([sent(strangers, "87654321")], code, [mine]) == mine.user_id
    assert proven([sent(strangers, "87654321")], code, None) is None
    assert proven([sent(strangers, "87654321")], code, []) is None
    assert proven([sent(mine, "87654320")], code, [mine]) is None


def test_half_a_long_code_is_none_and_a_short_code_with_more_behind_it_neither() -> None:
    mine = sign_up()
    assert proven([sent(mine, "87654321")], typed("12345678"), [mine]) is None
    assert proven([sent(mine, "87654321")], typed("12345678"), None) is None
    assert proven([sent(mine)], typed("1234567887654321"), [mine]) is None


def test_a_short_code_is_void_after_too_many_wrong_ones_with_its_password_and_a_long_one_is_not() -> None:
    last, tried = sign_up(attempts=CODE_ATTEMPTS), sign_up(attempts=CODE_ATTEMPTS + 1)
    assert proven([sent(last)], typed("12345678"), [last]) == last.user_id
    assert proven([sent(tried)], typed("12345678"), [tried]) is None
    assert proven([sent(tried, "87654321")], typed("1234567887654321"), [tried]) == tried.user_id
