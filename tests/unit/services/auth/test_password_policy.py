"""Worthless passwords are refused, and good ones are left alone."""

import sys

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
        "ada.lovelace@example.com",
        "Ada.Lovelace@Example.com!",
        "authmesh",
        "Authmesh2026!",
        # Of the list of breaches.
        "trustno1",
        "iloveyou2",
        "Mustang1969",
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


def test_a_deployment_may_demand_longer_ones() -> None:
    policy = PasswordPolicy.load(shortest=15)
    policy.check("correct horse b", field="password", email=EMAIL)
    with pytest.raises(InvalidArgument, match="must have 15 to 128 characters"):
        policy.check("correct horse ", field="password", email=EMAIL)


def test_the_list_is_that_of_the_library_and_nothing_else_of_it_stays() -> None:
    assert len(POLICY._common) == 30_000
    assert not [name for name in sys.modules if name.startswith("zxcvbn")]


def test_length_is_counted_after_normalisation() -> None:
    # U+FDFA is one character that NFKC makes eighteen of.
    with pytest.raises(InvalidArgument):
        check("\ufdfa" * 8)
    check("k9-" + "\ufdfa" * 2)
