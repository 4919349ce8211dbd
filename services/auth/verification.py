"""One-time codes: how they look, how long they live, and whether one is right."""

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mesh.errors import FieldViolation, InvalidArgument, Reason
from mesh.resources.text import digits
from services.auth.account import SignUp

CODE_DIGITS = 8
CODE_LIFETIME = timedelta(minutes=30)
CODE_ATTEMPTS = 10
"""Wrong codes before a code is void. With 10^8 codes, and few messages a day, guessing is hopeless."""
OPEN_SIGN_UPS = 10
"""Sign-ups of one address whose codes are good at the same time: a stranger's does not void the owner's."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a code comes to."""

    verified: SignUp | None
    """The sign-up whose code it is."""
    tried: tuple[SignUp, ...]
    """The sign-ups that a wrong code counts against. Empty when none could have been meant."""


def new_code(randbelow: Callable[[int], int]) -> str:
    """A code that was never foreseeable: `randbelow` is `secrets.randbelow`, or a test's."""
    return f"{randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"


def typed(code: str) -> str:
    """The digits of a code, however they were typed or pasted.

    Raises:
        InvalidArgument: CODE_INVALID, it can't be a code. Nobody's attempt: it guesses nothing.
    """
    if len(meant := digits(code)) != CODE_DIGITS or not (meant.isascii() and meant.isdigit()):
        message = f"a code has {CODE_DIGITS} digits"
        raise InvalidArgument(Reason.CODE_INVALID, message, violations=(FieldViolation("code", message),))
    return meant


def judge(sign_ups: Sequence[SignUp], digest: bytes, now: datetime) -> Verdict:
    """Compares a code's digest with every open sign-up, always with all of them and in constant time."""
    live = [item for item in sign_ups if item.code_hash is not None and item.code_expire_time > now and item.code_attempts < CODE_ATTEMPTS]
    right = [item for item in live if hmac.compare_digest(item.code_hash or b"", digest)]
    return Verdict(right[0] if right else None, () if right else tuple(live))


def code_invalid() -> InvalidArgument:
    """The one answer to a wrong code, an expired one, one tried too often, and an address that awaits none."""
    message = "the code is wrong or has expired: ask for a new one"
    return InvalidArgument(Reason.CODE_INVALID, message, violations=(FieldViolation("code", message),))
