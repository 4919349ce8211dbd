"""What commands print, in one place.

Much of it is text of callers: names, addresses, reasons, user agents, answers of a service. A terminal obeys what is in
it: escape sequences set its title, hide lines and answer in the keyboard's place; marks of direction turn a line
around. So whatever is not seen is printed as JSON escapes it, which leaves JSON what it says.
"""

import json
import re
import sys
import unicodedata
from typing import NoReturn

# Controls and formats, what is half of a character, and the separators that end a line.
_SEEN = re.compile(r"[ -~]*")
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"
"""Persian and emoji need them, and a terminal does nothing of its own with them."""


def escaped(text: str) -> str:
    """The text as one line that does nothing to a terminal."""
    if _SEEN.fullmatch(text):
        return text
    return "".join(_escape(character) if _is_unseen(character) else character for character in text)


def escaped_lines(text: str) -> str:
    """As `escaped`, of text of several lines. Not for text whose line feeds are a caller's."""
    return "\n".join(map(escaped, text.split("\n")))


def line(text: str = "", *, error: bool = False) -> None:
    """Prints one line, at once. `error`: to standard error."""
    _print(escaped(text), error=error)


def lines(text: str, *, error: bool = False) -> None:
    """Prints text of several lines, at once: see `escaped_lines`."""
    _print(escaped_lines(text), error=error)


def fail(message: str, status: int = 1) -> NoReturn:
    """Ends the command with one line that says why."""
    lines(f"authmesh: {message}", error=True)
    sys.exit(status)


def _print(text: str, *, error: bool) -> None:
    print(text, file=sys.stderr if error else sys.stdout, flush=True)


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN and character not in _JOINERS


def _escape(character: str) -> str:
    return json.dumps(character)[1:-1]
