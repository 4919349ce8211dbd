"""One rule says what is text that people read, and one what digits a code has."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.resources.text import TextError, clean, digits

ZWNJ, ZWJ = "\u200c", "\u200d"
ALLOWED = [
    "Ada Lovelace",
    "Ада Лавлейс",
    "Zoë d'Été-O’Neill №5",
    "नमस्ते दुनिया",
    "さくら　太郎",
    # Persian: between letters that join, through a mark, and behind one that doesn't join.
    f"می{ZWNJ}خواهم",
    f"نامه{ZWNJ}ها",
    f"بَّ{ZWNJ}ه",
    f"کشور{ZWNJ}ها",
    # Beside a virama.
    f"ශ්{ZWJ}රී",
    f"क्{ZWNJ}ष",
    f"র{ZWJ}্য",
    # Emoji.
    "👩‍💻",
    "👩🏽‍💻",
    "👨‍👩‍👧‍👦",
    "🏳️‍🌈",
    "🏴‍☠️",
    "❤️‍🔥",
    "🙂‍↔️",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "1️⃣",
    # A name of a place in Japan, with the form of its character selected.
    "葛\U000e0100城",
]
REFUSED = {
    "ESC": "\x1b[31mAda",
    "NUL": "A\0da",
    "DEL": "A\x7fda",
    "C1": "A\x9bda",
    "a new line": "Ada\nLovelace",
    "a line separator": "Ada\u2028Lovelace",
    "a bidi override": "Ada \u202egro.live",
    "a bidi embedding": "\u202bAda\u202c!",
    "a bidi isolate": "\u2066Ada\u2069!",
    "a bidi mark": "A\u200fda",
    "a zero-width space": "A\u200bda",
    "a word joiner": "A\u2060da",
    "a byte order mark": "A\ufeffda",
    "a soft hyphen": "A\u00adda",
    "a combining grapheme joiner": "A\u034fda",
    "a Hangul filler": "\u3164",
    "a Braille blank": "\u2800",
    "a tag without its flag": "A\U000e0064da",
    "an unfinished flag": "🏴\U000e0067\U000e0062",
    "a non-joiner between Latin letters": f"A{ZWNJ}da",
    "a joiner between Latin letters": f"A{ZWJ}da",
    "a non-joiner at the start": f"{ZWNJ}می",
    "a non-joiner at the end": f"می{ZWNJ}",
    "two non-joiners": f"می{ZWNJ}{ZWNJ}خواهم",
    "a joiner between letters that join": f"می{ZWJ}خواهم",
    "a joiner behind half of an emoji": f"👩{ZWJ}",
    "a joiner between letter and emoji": f"A{ZWJ}💻",
    "a selector behind nothing": "\ufe0f",
    "a selector behind a space": "A \ufe0f",
    "two selectors": "❤\ufe0f\ufe0f",
    "a noncharacter": "A\ufffe",
    "another noncharacter": "A\ufdd0",
}


@pytest.mark.parametrize("text", ALLOWED)
def test_names_of_all_scripts_are_text(text: str) -> None:
    assert clean(f" {text}\n") == text


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_what_nobody_sees_is_no_text_and_is_named_without_the_rest(text: str) -> None:
    with pytest.raises(TextError, match=r"^must not contain the control or invisible character U\+[0-9A-F]{4,6}$"):
        clean(text)


def test_one_name_has_one_spelling() -> None:
    assert clean("Zoe\u0308") == clean("Zo\u00eb") == "Zoë"
    assert clean("\u3000Ada\u00a0\t") == "Ada"


@given(st.text())
def test_what_is_text_stays_as_it_is_and_every_character_of_it_is_seen_or_needed(text: str) -> None:
    try:
        kept = clean(text)
    except TextError:
        return
    assert clean(kept) == kept == unicodedata.normalize("NFC", kept).strip()
    unseen = {character for character in kept if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")}
    assert all(character in (ZWNJ, ZWJ) or "\U000e0020" <= character <= "\U000e007f" for character in unseen)


@pytest.mark.parametrize(
    "typed",
    [
        "12345678",
        " 1234 5678\n",
        "1234-5678",
        "1234\u20115678",
        "1234\u22125678",
        "1234\u00a05678",
        "1234\u202f5678",
        "\ufeff12\u200b34\u206056\u00ad78\u200e",
        "１２３４５６７８",
        "１２３４－５６７８",
        "۱۲۳۴۵۶۷۸",
        "१२३४५६७८",
        "𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖",
    ],
)
def test_a_code_is_its_digits_however_it_was_typed_or_pasted(typed: str) -> None:
    assert digits(typed) == "12345678"


@pytest.mark.parametrize("typed", ["1234567a", "1234.5678", "12345678٪", "+12345678", "<b>12345678"])
def test_what_is_neither_digit_nor_between_digits_is_left_for_the_caller_to_refuse(typed: str) -> None:
    assert not digits(typed).isdecimal()
