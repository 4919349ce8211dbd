"""One-time passwords, held against the vectors of RFC 6238 and against pyotp."""

import secrets
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.auth import totp

SECRET = b"12345678901234567890"
NOW = datetime(2026, 11, 26, 12, 0, 5, tzinfo=UTC)
STEP = totp.step_of(NOW)


@pytest.mark.parametrize(("seconds", "code"), [
    (59, "94287082"), (1111111109, "07081804"), (1111111111, "14050471"), (1234567890, "89005924"),
    (2000000000, "69279037"), (20000000000, "65353130"),
])  # fmt: skip
def test_the_vectors_of_the_rfc(seconds: int, code: str) -> None:
    """Appendix B, SHA-1. Its codes have eight digits, of which ours are the last six."""
    assert totp.code_at(SECRET, totp.step_of(datetime.fromtimestamp(seconds, UTC))) == code[2:]


@given(st.binary(min_size=16, max_size=64), st.integers(0, 2**40))
def test_pyotp_agrees(secret: bytes, step: int) -> None:
    import base64

    judge = pyotp.HOTP(base64.b32encode(secret).decode())
    assert totp.code_at(secret, step) == judge.at(step)


def test_an_app_that_reads_the_uri_shows_the_codes_that_are_taken() -> None:
    secret = totp.new_secret(secrets.token_bytes)
    uri = totp.provisioning_uri(secret, issuer="Ada & Sons", account="ada@example.com")
    app = pyotp.parse_uri(uri)
    assert isinstance(app, pyotp.TOTP)
    assert (app.issuer, app.name) == ("Ada & Sons", "ada@example.com")
    assert totp.matching_step(secret, app.at(NOW), NOW) == STEP
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc, unquote(parts.path)) == ("otpauth", "totp", "/Ada & Sons:ada@example.com")
    assert "+" not in parts.query, "apps take a plus for a plus"
    assert parse_qs(parts.query)["issuer"] == ["Ada & Sons"]


@pytest.mark.parametrize("steps", range(-4, 5))
def test_a_step_before_and_after_is_taken_and_no_other(steps: int) -> None:
    code = totp.code_at(SECRET, STEP + steps)
    expected = STEP + steps if abs(steps) <= 1 else None
    assert totp.matching_step(SECRET, code, NOW) == expected


def test_a_code_may_be_typed_in_many_ways() -> None:
    code = totp.code_at(SECRET, STEP)
    wide = code.translate({48 + digit: 0xFF10 + digit for digit in range(10)})
    for typed in (code, f" {code[:3]} {code[3:]}\n", f"{code[:3]}-{code[3:]}", wide):
        assert totp.matching_step(SECRET, typed, NOW) == STEP
    for wrong in ("", "1", code[:5], f"{code}0", "abcdef", f"-{code[1:]}x"):
        assert totp.matching_step(SECRET, wrong, NOW) is None


def test_leading_zeros_count() -> None:
    step = next(step for step in range(10_000) if totp.code_at(SECRET, step).startswith("0"))
    now = datetime.fromtimestamp(step * totp.STEP_SECONDS, UTC)
    assert totp.matching_step(SECRET, totp.code_at(SECRET, step), now) == step
    assert totp.matching_step(SECRET, totp.code_at(SECRET, step).lstrip("0"), now) is None


def test_the_code_changes_with_the_step() -> None:
    assert totp.step_of(NOW + timedelta(seconds=24)) == STEP
    assert totp.step_of(NOW + timedelta(seconds=25)) == STEP + 1
