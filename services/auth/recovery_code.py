"""Recovery codes: what stands in for a lost authenticator app. Ten of 120 random bits, each good once.

With so many bits a plain SHA-256 is enough to store them (OWASP ASVS 5.0, 6.5.2), and no limit is needed to keep them
from being guessed: a person who has lost the app is in no one's hands.
"""

import base64
import hashlib
import unicodedata
from collections.abc import Callable
from uuid import UUID

COUNT = 10
BYTES = 15
_GROUP = 4
_CHARACTERS = BYTES * 8 // 5
_MISREAD = str.maketrans("018", "OIB")
"""Digits that Base32 does not have, and the letters that they look like."""


def new_codes(random_bytes: Callable[[int], bytes]) -> list[str]:
    """Codes as people are shown them, in groups of four characters.

    `random_bytes` is `secrets.token_bytes`, or a test's.
    """
    codes = (base64.b32encode(random_bytes(BYTES)).decode() for _ in range(COUNT))
    return ["-".join(code[at : at + _GROUP] for at in range(0, _CHARACTERS, _GROUP)) for code in codes]


def digest(user_id: UUID, code: str) -> bytes:
    """What is stored of a code, however it was typed.

    Args:
        user_id: Whose. Bound to it: in another person's row it opens nothing.
        code: With or without hyphens, in either case.
    """
    letters = (letter for letter in unicodedata.normalize("NFKC", code).upper() if letter.isalnum())
    return hashlib.sha256(user_id.bytes + "".join(letters).translate(_MISREAD).encode()).digest()
