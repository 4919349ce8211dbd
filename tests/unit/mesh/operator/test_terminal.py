"""Nothing that a caller wrote does anything to the terminal of its reader, and only one module prints."""

import ast
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.local.console import PlainConsole
from mesh.operator import terminal

ROOT = Path(__file__).parents[4]
MAY_PRINT = {
    "mesh/operator/terminal.py": "the one place",
    "mesh/storage/migrations/__init__.py": "a package's name and a revision's, from the command line and from us",
    "mesh/storage/provisioning.py": "a service's name and a revision's, from the command line and from us",
    "mesh/lambda_batch.py": "lines of JSON in ASCII, for CloudWatch",
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\u001b]0;title\u0007"),
        ("\x1b[2K\x1b[1A", r"\u001b[2K\u001b[1A"),
        ("\x9b31m\x7f\x00", r"\u009b31m\u007f\u0000"),
        ("one\r\ntwo\tthree", r"one\r\ntwo\tthree"),
        ("users/\u202egnp.exe\u2066", r"users/\u202egnp.exe\u2066"),
        ("a\u2028b\u2029c\u0085d\ufeffe", r"a\u2028b\u2029c\u0085d\ufeffe"),
        ("\U000e0041\ud800", r"\udb40\udc41\ud800"),
        ("Zoë 电话 می\u200cخواهم 👩\u200d💻 \\x1b", "Zoë 电话 می\u200cخواهم 👩\u200d💻 \\x1b"),
    ],
)
def test_what_is_not_seen_is_shown_and_all_else_stays(text: str, shown: str) -> None:
    assert terminal.escaped(text) == shown


@given(st.text())
def test_no_text_leaves_anything_that_a_terminal_obeys(text: str) -> None:
    shown = terminal.escaped(text)
    assert {unicodedata.category(character) for character in shown} & {"Cc", "Cs", "Zl", "Zp"} == set()
    assert terminal.escaped(shown) == shown


@given(st.dictionaries(st.text(), st.lists(st.text())))
def test_json_says_the_same_as_before(document: dict[str, list[str]]) -> None:
    for indent in (None, 1):
        assert json.loads(terminal.escaped_lines(json.dumps(document, ensure_ascii=False, indent=indent))) == document


def test_lines_go_where_they_should(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.line("a\nb")
    terminal.lines("c\nd\x1b")
    terminal.line("e\x1b", error=True)
    assert capsys.readouterr() == ("a\\nb\nc\nd\\u001b\n", "e\\u001b\n")


def test_the_console_of_a_local_mesh_prints_by_it(capsys: pytest.CaptureFixture[str]) -> None:
    PlainConsole().line("last words of postgres: \x1b[31m")
    assert capsys.readouterr().out == "last words of postgres: \\u001b[31m\n"


def test_only_one_module_prints() -> None:
    found: dict[str, int] = {}
    for file in sorted([*ROOT.glob("mesh/**/*.py"), *ROOT.glob("services/**/*.py")]):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {
                "print",
                "typer.echo",
                "typer.secho",
                "click.echo",
                "sys.stdout.write",
            }:
                found.setdefault(str(file.relative_to(ROOT)), node.lineno)
    assert found.keys() == MAY_PRINT.keys(), f"print by mesh.operator.terminal: {found}"
