"""One-time codes: how they look, how long they live, and what they prove.

A code has eight digits while its address has one open sign-up, and is valid for that one. Once there are several, or
many codes were mailed, it has sixteen, and proves the address for the sign-up whose password comes with it. So the
owner of an address gets through however many strangers sign up with it and use up its mail: any such message will do,
and the strangers don't know the owner's password. Nor can anyone guess sixteen digits, for which each of them could
make as many sign-ups as they like.
"""

import hmac
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from mesh.errors import FieldViolation, InvalidArgument, Reason
from mesh.resources.text import digits
from services.auth.account import SentCode, SignUp

CODE_DIGITS = 8
CODE_LIFETIME = timedelta(minutes=30)
CODE_ATTEMPTS = 10
"""Wrong codes that may come with the password of a sign-up before its code is void. Only who has chosen the password
can send them."""


@dataclass(frozen=True, slots=True)
class Code:
    """A code, as it was made or typed."""

    first: str
    """Eight digits."""
    rest: str
    """Eight more, or none."""

    @property
    def is_long(self) -> bool:
        """Whether it is valid for every sign-up of its address, with its password."""
        return bool(self.rest)

    def __str__(self) -> str:
        return self.first + self.rest


def new_code(randbelow: Callable[[int], int]) -> Code:
    """A long code that was never foreseeable: `randbelow` is `secrets.randbelow`, or a test's.

    `short` makes one for a single sign-up of it.
    """
    return Code(f"{randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}", f"{randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}")


def short(code: Code) -> Code:
    """The code for one sign-up only."""
    return Code(code.first, "")


def typed(code: str) -> Code:
    """The digits of a code, however they were typed or pasted.

    Raises:
        InvalidArgument: CODE_INVALID, it can't be a code. No one's attempt: it guesses nothing.
    """
    meant = digits(code)
    if len(meant) not in (CODE_DIGITS, 2 * CODE_DIGITS) or not (meant.isascii() and meant.isdigit()):
        message = f"a code has {CODE_DIGITS} or {2 * CODE_DIGITS} digits"
        raise InvalidArgument(Reason.CODE_INVALID, message, violations=(FieldViolation("code", message),))
    return Code(meant[:CODE_DIGITS], meant[CODE_DIGITS:])


def proven(sent: Sequence[SentCode], code: Code, meant: Sequence[SignUp] | None) -> uuid.UUID | None:
    """The sign-up that a code proves the address for.

    Args:
        sent: The codes that live and begin with the same eight digits.
        code: As typed.
        meant: The sign-ups with the password that came with it, newest first, this attempt counted; None if no password
            came.
    """
    right = next((item for item in sent if hmac.compare_digest(item.rest.encode(), code.rest.encode())), None)
    if right is None or (meant is None and code.is_long):
        return None
    if meant is None:
        return right.user_id
    good = (
        item.user_id
        for item in meant
        if code.is_long or (item.user_id == right.user_id and item.code_attempts <= CODE_ATTEMPTS)
    )
    return next(good, None)


def code_invalid() -> InvalidArgument:
    """The one answer to a wrong code, an expired one, one tried too often, and an address that awaits none."""
    message = "the code is wrong or has expired: ask for a new one"
    return InvalidArgument(Reason.CODE_INVALID, message, violations=(FieldViolation("code", message),))
