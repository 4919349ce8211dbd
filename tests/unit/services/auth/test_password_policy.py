"""Worthless passwords are refused, and good ones are left alone."""

import pytest

from mesh.errors import InvalidArgument, Reason
from services.auth.password_policy import PasswordPolicy

POLICY = PasswordPolicy.load()
EMAIL = "ada.lovelace@example.com"


def check(password: str) -> None:
    POLICY.check(password, field="password", email=EMAIL, names=("Ada Lovelace",))


@pytest.mark.parametrize(
    "password",
    [
        "",
        "x",
        "short12",
        "x" * 129,
        "aaaaaaaaaaaa",
        "ababababab",
        "abcabcabc",
        "qwertyuiop",
        "12345678",
        "87654321abc",
        "asdf1234qwer",
        "password",
        "Password1",
        "P@ssw0rd!",
        "password2024!",
        "monkeymonkey",
        "Summer2026",
        "Ｐａｓｓｗｏｒｄ1",
        "adalovelace1",
        "lovelace!!12",
        "example.com1",
    ],
)
def test_it_is_refused_with_the_field_named(password: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        check(password)
    assert refusal.value.reason is Reason.PASSWORD_INVALID
    assert [violation.field for violation in refusal.value.violations] == ["password"]
    assert len(password) <= len("password") or password not in refusal.value.message


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "tr0ub4dor&3",
        "kzq8-vrtw-93",
        "9f8a7b6c5d",
        "83659201-may",
        "lovelace and the analytical engine",
        "пароль-из-леса",
        "x1y2z3q4" * 16,
    ],
)
def test_it_is_good_enough(password: str) -> None:
    check(password)


def test_length_is_counted_after_normalisation() -> None:
    # U+FDFA is one character that NFKC makes eighteen of.
    with pytest.raises(InvalidArgument):
        check("\ufdfa" * 8)
    check("k9-" + "\ufdfa" * 2)
