"""A letter: what a message says to a person.

One pair of templates for each kind, in `letters/<kind>.txt` and `letters/<kind>.html`.

The first line of the text is the subject. Nothing that someone else has chosen is in a letter, but for the name of a
device, which is stripped down to letters first: a letter must not carry a stranger's words to an address that the
stranger chose.
"""

import html
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from functools import cache
from pathlib import Path
from string import Template

from authmesh.mail.v1.message_pb2 import Message
from google.protobuf import json_format

LETTERS = Path(__file__).parent / "letters"
DEVICE_CHARACTERS = 60

_KIND = re.compile(r"[a-z_]{1,40}")
_ADDRESS = re.compile(r"[^\s@<>,;\"]{1,64}@[^\s@<>,;\"]{1,255}")
_SIGNS_OF_A_NAME = " _()'’+-"
_JOINERS = "\u200c\u200d"


class LetterError(ValueError):
    """A message that no letter can be made of. Says why, without repeating the content."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter, ready to be sent."""

    to: str = field(repr=False)
    subject: str
    text: str = field(repr=False)
    html: str = field(repr=False)


def kinds() -> frozenset[str]:
    """The kinds of messages that there are letters for."""
    return frozenset(path.stem for path in LETTERS.glob("*.txt"))


def compose(body: str) -> Letter:
    """The letter of a message, as services publish it.

    Args:
        body: JSON of `authmesh.mail.v1.Message`.

    Raises:
        LetterError: it is not such a message, has no letter of its kind, or lacks something that its letter says.
    """
    try:
        message = json_format.Parse(body, Message(), ignore_unknown_fields=True)
        if not message.HasField("sent_time"):
            raise ValueError("no time")
        values = {"code": message.code, "device": _device(message.facts), "time": _time(message)}
    except (json_format.ParseError, ValueError, OverflowError, RecursionError) as error:
        raise LetterError(f"not a message to a person ({type(error).__name__})") from None
    email, kind = message.email, message.kind
    if not _ADDRESS.fullmatch(email):
        raise LetterError("no address to send to")
    if not _KIND.fullmatch(kind) or kind not in kinds():
        raise LetterError("no letter of this kind")
    text, page = _templates(kind)
    if "$code" in text.template and not re.fullmatch(r"\w{4,20}", values["code"]):
        raise LetterError(f"{kind} without its code")
    subject, _, rest = text.substitute(values).partition("\n")
    content = page.substitute({name: html.escape(value) for name, value in values.items()})
    return Letter(email, subject, rest.lstrip("\n"), _frame().substitute(title=html.escape(subject), content=content))


def _device(facts: Mapping[str, str]) -> str:
    kept = ""
    for character in facts.get("device", ""):
        kept += character if _is_of_a_name(character, kept[-1:]) else " "
    return " ".join(kept.split())[:DEVICE_CHARACTERS] or "a device without a name"


def _is_of_a_name(character: str, before: str) -> bool:
    """Letters, digits and a few signs; of any script, so with its marks, and with joiners behind a letter or a mark."""
    if character in _JOINERS:
        return before.isalnum() or (before != "" and unicodedata.category(before).startswith("M"))
    return character.isalnum() or character in _SIGNS_OF_A_NAME or unicodedata.category(character).startswith("M")


def _time(message: Message) -> str:
    moment = message.sent_time.ToDatetime(UTC)
    return f"{moment:%d} {moment:%B %Y}, {moment:%H:%M} UTC"


@cache
def _templates(kind: str) -> tuple[Template, Template]:
    return Template((LETTERS / f"{kind}.txt").read_text()), Template((LETTERS / f"{kind}.html").read_text())


@cache
def _frame() -> Template:
    return Template((LETTERS / "_frame.html").read_text())
