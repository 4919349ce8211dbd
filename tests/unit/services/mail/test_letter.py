"""Letters say what they have to, and carry no stranger's words."""

import json
from typing import Any

import pytest
import yaml

from mesh.operator.state_dir import PROJECT
from services.mail.letter import Letter, LetterError, compose, kinds

SENT = "2026-03-04T05:06:07+00:00"


def message(**changes: Any) -> str:
    return json.dumps(
        {"email": "ada@example.org", "kind": "verify_email", "code": "123456", "display_name": "Ada", "sent_time": SENT}
        | changes
    )


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_every_kind_has_a_letter_in_text_and_html(kind: str) -> None:
    letter = compose(message(kind=kind, facts={"device": "Ada's phone"}))
    assert letter.to == "ada@example.org"
    assert letter.subject
    assert "\n" not in letter.subject
    assert "$" not in letter.text + letter.html
    assert letter.subject in letter.html.replace("&#x27;", "'")


def test_a_code_is_in_the_letters_that_are_about_one() -> None:
    with_code = {kind for kind in kinds() if "123456" in compose(message(kind=kind)).text}
    assert with_code == {"verify_email", "reset_password"}
    assert all("123456" in compose(message(kind=kind)).html for kind in with_code)
    assert all("123456" not in compose(message(kind=kind)).subject for kind in kinds())


def test_a_notice_says_when_and_what() -> None:
    letter = compose(message(kind="new_device", code="", facts={"device": "Ada's phone (android)"}))
    assert "04 March 2026, 05:06 UTC" in letter.text
    assert "Ada's phone (android)" in letter.text
    assert "Ada&#x27;s phone" in letter.html


@pytest.mark.parametrize("name", ["हिन्दी फ़ोन", "گوشی‌های من", "ශ්\u200dරී", "Zoë’s phone", "さくらのスマホ"])
def test_a_device_may_be_named_in_any_script(name: str) -> None:
    assert name in compose(message(kind="new_device", code="", facts={"device": name})).text


@pytest.mark.parametrize("name", ["👩\u200d💻", "\u202e\u2066", "<>&", " \u200d "])
def test_a_name_without_a_letter_is_no_name(name: str) -> None:
    assert "a device without a name" in compose(message(kind="new_device", code="", facts={"device": name})).text


def test_no_stranger_writes_in_a_letter() -> None:
    evil = '<a href="https://evil.example">win</a>\nSubject: hi'
    letter = compose(message(kind="new_device", display_name=evil, facts={"device": evil}))
    for part in (letter.text, letter.html):
        assert "://" not in part
        assert "evil.example" not in part
        assert "<a " not in part
    assert "Subject" not in compose(message(display_name=evil)).text


@pytest.mark.parametrize(
    "body",
    [
        "no json",
        "[]",
        "{}",
        message(email=""),
        message(email="two@example.org,three@example.org"),
        message(email="a@example.org\nBcc: b@example.org"),
        message(email=7),
        message(kind="../letter"),
        message(kind="invented"),
        message(kind=["verify_email"]),
        message(code=""),
        message(code="<b>1</b>"),
        message(sent_time="yesterday"),
        message(facts="none"),
    ],
)
def test_what_is_no_message_is_no_letter(body: str) -> None:
    with pytest.raises(LetterError) as refused:
        compose(body)
    assert "example.org" not in str(refused.value)


def test_a_letter_shows_neither_code_nor_address_when_it_is_printed() -> None:
    letter = compose(message())
    assert isinstance(letter, Letter)
    assert "123456" not in repr(letter)
    assert "ada@" not in repr(letter)


def test_the_queue_of_the_template_gets_every_kind_that_has_a_letter() -> None:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    resources = yaml.load((PROJECT / "deploy" / "aws" / "functions.yaml").read_text(), Loader)["Resources"]
    assert set(resources["MailSubscription"]["Properties"]["FilterPolicy"]["kind"]) == kinds()
