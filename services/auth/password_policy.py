"""Which passwords are refused (NIST SP 800-63B-4, 3.1.1.2; OWASP ASVS 5.0, 6.2).

Too short, known to every attacker, or made of next to nothing.

No demand for digits or capitals: they make passwords worse, not better.
"""

import re
import unicodedata
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

from mesh.errors import FieldViolation, InvalidArgument, Reason

SHORTEST = 8
LONGEST = 128
"""Characters after NFKC. An upper bound at all, because hashing takes time in its length."""

_ROWS = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "yxcvbnm",
    "azertyuiop",
    "qsdfghjklm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p",
    "1q2w3e4r5t6y7u8i9o0p",
    "qazwsxedcrfvtgbyhnujmik,ol.p",
)
_DISGUISES = str.maketrans(
    {"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i", "8": "b"}
)
_EDGES = re.compile(r"^[\W\d_]+|[\W\d_]+$")
_FEWEST_DIFFERENT = 4
_LONGEST_REPEAT = 4
_SHORTEST_NAME = 4
_PRODUCT = "authmesh"
_MOST_TRIMMED = 6
"""More digits and signs than that around a word are a password in themselves."""


class PasswordPolicy:
    """Judges new passwords. Never applied at sign-in, where it would tell what a password is not."""

    def __init__(self, common: frozenset[str], *, shortest: int = SHORTEST) -> None:
        """Initializes the instance.

        Args:
            common: The best known passwords, in lower case.
            shortest: Characters that a password has at least.
        """
        self._common = common
        self._shortest = shortest

    @classmethod
    def load(cls, *, shortest: int = SHORTEST) -> "PasswordPolicy":
        """The policy with zxcvbn's list of 30,000 passwords from breaches.

        Args:
            shortest: Characters that a password has at least.
        """
        return cls(_common_passwords(), shortest=shortest)

    def check(self, password: str, *, field: str, email: str, names: tuple[str, ...] = ()) -> None:
        """Judges a password that is about to be set.

        Args:
            password: As it was typed.
            field: Of the request, to be named in the refusal.
            email: The person's address; a password that is made of it is guessed first.
            names: Further words that everyone knows of the person.

        Raises:
            InvalidArgument: PASSWORD_INVALID, with what to do better.
        """
        normal = unicodedata.normalize("NFKC", password)
        fault = self._fault(normal, email, names)
        if fault:
            raise self.refusal(field, fault)

    def refusal(self, field: str, fault: str) -> InvalidArgument:
        """The refusal of a password: PASSWORD_INVALID.

        Args:
            field: Of the request.
            fault: What is wrong with it, and what to do.
        """
        return InvalidArgument(Reason.PASSWORD_INVALID, f"{field}: {fault}", violations=(FieldViolation(field, fault),))

    def _fault(self, password: str, email: str, names: tuple[str, ...]) -> str | None:
        if not self._shortest <= len(password) <= LONGEST:
            return f"must have {self._shortest} to {LONGEST} characters"
        folded = password.casefold()
        if len(set(folded)) < _FEWEST_DIFFERENT or _is_repetition(folded):
            return "repeats the same few characters: choose another"
        if _is_sequence(folded):
            return "is a sequence of the alphabet or the keyboard: choose another"
        if self._is_common(folded):
            return "is among the first that an attacker tries: choose another"
        known = " ".join((email, *names)).casefold()
        for word in {*re.split(r"[\W_]+", known), *re.split(r"[\s@]+", known), *known.split(), _PRODUCT}:
            if len(word) >= _SHORTEST_NAME and word in folded and len(folded) - len(word) < SHORTEST:
                return "is made of your address, your name or ours: choose another"
        return None

    def _is_common(self, folded: str) -> bool:
        """Also behind the usual disguises: digits and signs at the ends, digits for letters, the same word twice."""
        spellings = {folded, _trimmed(folded)}
        spellings |= {spelling.translate(_DISGUISES) for spelling in spellings}
        spellings |= {_trimmed(spelling) for spelling in spellings}
        spellings |= {
            spelling[: len(spelling) // 2] for spelling in spellings if spelling == spelling[: len(spelling) // 2] * 2
        }
        return not self._common.isdisjoint(spellings)


def _common_passwords() -> frozenset[str]:
    """Reads the list without importing the package around it.

    On import that package builds dictionaries of 100,000 words, and nothing here needs them.
    """
    package = find_spec("zxcvbn")
    assert package
    assert package.origin
    spec = spec_from_file_location("frequency_lists", Path(package.origin).with_name("frequency_lists.py"))
    assert spec
    assert spec.loader
    lists = module_from_spec(spec)
    spec.loader.exec_module(lists)
    return frozenset(lists.FREQUENCY_LISTS["passwords"])


def _trimmed(text: str) -> str:
    trimmed = _EDGES.sub("", text)
    return trimmed if len(text) - len(trimmed) <= _MOST_TRIMMED else text


def _is_repetition(text: str) -> bool:
    return any(
        text == (text[:length] * len(text))[: len(text)]
        for length in range(1, min(_LONGEST_REPEAT, len(text) // 2) + 1)
    )


def _is_sequence(text: str) -> bool:
    """Whether it is made of runs along the rows, of three or more characters each."""
    rows = [*_ROWS, *(row[::-1] for row in _ROWS)]
    at = 0
    while at < len(text):
        longest = max(_run(text, at, row) for row in rows)
        if longest < 3:
            return False
        at += longest
    return True


def _run(text: str, at: int, row: str) -> int:
    for length in range(min(len(row), len(text) - at), 2, -1):
        if text[at : at + length] in row:
            return length
    return 0
