"""Time-based one-time passwords (RFC 6238): SHA-1, six digits, thirty seconds, as every authenticator app has them."""

import base64
import hmac
import struct
from collections.abc import Callable
from datetime import datetime
from urllib.parse import quote, urlencode

from mesh.resources.text import digits

SECRET_BYTES = 20
"""The length of SHA-1's output (RFC 4226, section 4, R6)."""
DIGITS = 6
STEP_SECONDS = 30
WINDOW = 1
"""Steps before and after the present one whose codes are taken: clocks differ, and people type slowly (RFC 6238,
section 5.2)."""


def code_at(secret: bytes, step: int) -> str:
    """The code of a time step (RFC 4226, section 5.3).

    Args:
        secret: Shared with the app.
        step: Counts from 1970 (RFC 6238, section 4.2).
    """
    digest = hmac.digest(secret, struct.pack(">Q", step), "sha1")
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4]) & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"


def step_of(time: datetime) -> int:
    """The step that a time is in."""
    return int(time.timestamp()) // STEP_SECONDS


def matching_step(secret: bytes, typed: str, now: datetime) -> int | None:
    """The step whose code was typed, if it is near enough; the latest, should two of them share a code.

    The caller makes sure that a step is used once (RFC 6238, section 5.2).

    Args:
        secret: Shared with the app.
        typed: As it was typed or pasted.
        now: The time.
    """
    meant = digits(typed)
    if len(meant) != DIGITS or not meant.isascii():
        return None
    present = step_of(now)
    # Every one is compared, so that the time tells nothing.
    found = [
        step
        for step in range(present - WINDOW, present + WINDOW + 1)
        if hmac.compare_digest(code_at(secret, step), meant)
    ]
    return max(found, default=None)


def new_secret(random_bytes: Callable[[int], bytes]) -> bytes:
    """A secret: `random_bytes` is `secrets.token_bytes`, or a test's."""
    return random_bytes(SECRET_BYTES)


def provisioning_uri(secret: bytes, *, issuer: str, account: str) -> str:
    """What an app reads from the QR code (Key URI Format of Google Authenticator).

    Args:
        secret: To be shared.
        issuer: Whose account, as the app shows it.
        account: Which one: the person's address.
    """
    label = f"{quote(issuer, safe='')}:{quote(account, safe='@')}"
    parameters = urlencode({"secret": base64.b32encode(secret).decode(), "issuer": issuer}, quote_via=quote)
    return f"otpauth://totp/{label}?{parameters}"
