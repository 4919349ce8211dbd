"""The inbox file."""

from datetime import UTC, datetime
from pathlib import Path

from mesh.local import inbox
from mesh.local.inbox import Message


def message(email: str, code: str) -> Message:
    return Message(email=email, kind="verify_email", code=code, sent_time=datetime(2026, 11, 24, 10, tzinfo=UTC))


def test_messages_are_listed_newest_last(tmp_path: Path) -> None:
    for code in ("1", "2"):
        inbox.append(tmp_path / "inbox", message("a@example.com", code))
    assert [found.code for found in inbox.read(tmp_path / "inbox")] == ["1", "2"]


def test_an_address_picks_its_own_whatever_the_case(tmp_path: Path) -> None:
    inbox.append(tmp_path / "inbox", message("a@example.com", "1"))
    inbox.append(tmp_path / "inbox", message("b@example.com", "2"))
    assert [found.code for found in inbox.read(tmp_path / "inbox", "B@Example.com")] == ["2"]


def test_it_is_private(tmp_path: Path) -> None:
    inbox.append(tmp_path / "inbox", message("a@example.com", "1"))
    assert (tmp_path / "inbox").stat().st_mode & 0o777 == 0o600


def test_a_line_cut_short_is_passed_over(tmp_path: Path) -> None:
    inbox.append(tmp_path / "inbox", message("a@example.com", "1"))
    with (tmp_path / "inbox").open("a") as stream:
        stream.write('{"email": "b@ex')
    assert len(inbox.read(tmp_path / "inbox")) == 1


def test_no_file_is_no_message(tmp_path: Path) -> None:
    assert inbox.read(tmp_path / "inbox") == []
