"""The one rule for text that people read, and for codes that they type.

Text is in Unicode's normal form C, without white space around it. Control characters and characters that no one sees
are refused (the PRECIS FreeformClass, RFC 8264 section 4.3): they fake lines in logs and letters, turn the text around
them, or make two names look like one. Those that Unicode's own rules need are allowed where the rules need them:

- ZERO WIDTH NON-JOINER and JOINER in scripts that join, and beside a virama (RFC 5892 appendix A.1 and A.2, UAX #31
  section 2.3.1). Persian writes the non-joiner behind letters that don't join, too; Bengali a joiner before a virama.
- ZERO WIDTH JOINER between the signs of an emoji, and the tags of a flag (UTS #51).
- Variation selectors behind the character that they select a form of.

Length is counted in code points of the result.
"""

import re
import unicodedata

from idna import idnadata
from idna.intranges import intranges_contain

NON_JOINER, JOINER = "\u200c", "\u200d"

_VIRAMA = 9
"""The canonical combining class of all viramas."""
# Default_Ignorable_Code_Point beyond the categories of controls and formats, and the two that are drawn as nothing:
# the Braille pattern without dots and the halfwidth Hangul filler.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
_SELECTOR = re.compile("[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f")
_SKIN_TONE = re.compile("[\U0001f3fb-\U0001f3ff]")


class TextError(ValueError):
    """The text holds a character that it must not. Says which, and repeats nothing else."""


def clean(text: str) -> str:
    """The text in normal form C, without white space around it.

    Raises:
        TextError: it holds a control character or one that no one sees.
    """
    if text.isascii() and text.isprintable():
        return text.strip()
    text = unicodedata.normalize("NFC", text).strip()
    flags = {at for flag in _FLAG.finditer(text) for at in range(*flag.span())}
    for at, character in enumerate(text):
        if _is_unseen(character) and at not in flags and not _is_needed(text, at):
            raise TextError(f"must not contain the control or invisible character U+{ord(character):04X}")
    return text


def digits(code: str) -> str:
    """A code as it was meant, however it was typed or pasted: ASCII digits for those of any script.

    What stands between digits is gone: white space, dashes, and whatever no one sees. All else stays, for the caller to
    refuse.
    """
    meant = (character for character in unicodedata.normalize("NFKC", code) if not _is_between_digits(character))
    return "".join(str(unicodedata.decimal(character, character)) for character in meant)


def _is_unseen(character: str) -> bool:
    code_point = ord(character)
    return (
        unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        or _UNSEEN.match(character) is not None
        # Noncharacters.
        or code_point & 0xFFFE == 0xFFFE
        or 0xFDD0 <= code_point <= 0xFDEF
    )


def _is_between_digits(character: str) -> bool:
    return unicodedata.category(character) in ("Zs", "Pd") or character == "\u2212" or _is_unseen(character)


def _is_needed(text: str, at: int) -> bool:
    if text[at] in (NON_JOINER, JOINER):
        before, after = text[:at], text[at + 1 :]
        if not before or not after:
            return False
        if _is_virama(before[-1]) or _is_virama(after[0]):
            return True
        return _joins(before[::-1]) and _joins(after) if text[at] == NON_JOINER else _is_emoji(before, after)
    before = text[at - 1 : at]
    return _SELECTOR.match(text[at]) is not None and before != "" and not before.isspace() and not _is_unseen(before)


def _is_virama(character: str) -> bool:
    return unicodedata.combining(character) == _VIRAMA


def _joins(text: str) -> bool:
    """Whether the first character that is not transparent (a mark, as a rule) is a letter of a script that joins."""
    for character in text:
        if not _is_of_joining_type(character, "T"):
            return any(_is_of_joining_type(character, kind) for kind in ("D", "R", "L"))
    return False


def _is_of_joining_type(character: str, kind: str) -> bool:
    return intranges_contain(ord(character), idnadata.joining_types[kind])


def _is_emoji(before: str, after: str) -> bool:
    base = before.rstrip("\ufe0f")
    return _is_pictograph(_SKIN_TONE.sub("", base[-2:])[-1:] or base[-1:]) and _is_pictograph(after[0])


def _is_pictograph(character: str) -> bool:
    # Python knows no Extended_Pictographic: symbols, and the blocks that newer Unicode puts emoji in.
    return unicodedata.category(character or " ") in ("So", "Sm") or "\U0001f000" <= character <= "\U0001faff"
