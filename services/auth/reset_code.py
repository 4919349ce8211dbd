"""Codes that reset a password: sixteen digits, single use, for half an hour.

A code that opens an account must not be guessed by patience. Eight digits would need a limit of wrong codes by
address, and strangers would use it up: the owner could not reset the password while they go on. Sixteen digits need
none.
"""

from collections.abc import Callable
from datetime import timedelta

from mesh.errors import FieldViolation, InvalidArgument, Reason
from mesh.resources.text import digits

DIGITS = 16
LIFETIME = timedelta(minutes=30)


def new(randbelow: Callable[[int], int]) -> str:
    """A code that no one can foresee: `randbelow` is `secrets.randbelow`, or a test's."""
    return f"{randbelow(10**DIGITS):0{DIGITS}d}"


def typed(code: str) -> str:
    """The digits of a code, however they were typed or pasted.

    Raises:
        InvalidArgument: CODE_INVALID, it can't be a code.
    """
    meant = digits(code)
    if len(meant) != DIGITS or not (meant.isascii() and meant.isdigit()):
        message = f"a reset code has {DIGITS} digits"
        raise InvalidArgument(Reason.CODE_INVALID, message, violations=(FieldViolation("code", message),))
    return meant


def invalid() -> InvalidArgument:
    """The one answer to a wrong code, an expired one, a spent one, and an address that awaits none."""
    message = "the code is wrong or has expired: ask for a new one"
    return InvalidArgument(Reason.CODE_INVALID, message, violations=(FieldViolation("code", message),))
