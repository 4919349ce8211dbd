"""Broken files are told with line and column, all faults at once, and nothing of Python."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from mesh.model import document
from mesh.model.document import DocumentError, StrictModel, read_model, unknown


class Leaf(StrictModel):
    port_number: Annotated[int, Field(ge=1, le=65535)]
    protocol: Literal["grpc", "http2"] = "grpc"


class Tree(StrictModel):
    name: str
    leaves: tuple[Leaf, ...] = ()
    root: str | None = None
    inner: Leaf | None = None

    @classmethod
    def cross_faults(cls, raw: Any) -> Iterator[tuple[document.Path_, str]]:
        if isinstance(raw, dict) and raw.get("root") not in (None, "oak", "elm"):
            yield ("root",), unknown("root", raw["root"], ["oak", "elm"])


GOOD = """\
name: tree
leaves:
- &leaf {portNumber: 1}
- *leaf
- portNumber: 65535
  protocol: http2
root: oak
"""


def faults(folder: Path, text: str | bytes) -> list[str]:
    file = folder / "tree.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DocumentError) as refused:
        read_model(file, Tree)
    return [line.removeprefix(str(file)) for line in str(refused.value).splitlines()]


def test_a_good_file_is_read_with_its_aliases(tmp_path: Path) -> None:
    for start in ("", "\ufeff", "---\n", "# what it is\n"):
        (tmp_path / "tree.yaml").write_text(start + GOOD)
        tree = read_model(tmp_path / "tree.yaml", Tree)
        assert [leaf.port_number for leaf in tree.leaves] == [1, 1, 65535]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", [": it is empty"]),
        ("- a", [":1:1: the file: Input should be a valid dictionary or instance of Tree"]),
        ("name: tree\nlaeves: []", [":2:1: laeves: there is no such key: did you mean leaves?"]),
        ("name: tree\nzzz: []", [":2:1: zzz: there is no such key: known: name, leaves, root, inner"]),
        ("leaves: []", [":1:1: the file: name is missing"]),
        ("name: tree\nname: other", [":2:1: name is there twice: first in line 1"]),
        ("name: tree\n1: x", [":2:1: a key is a word: put it in quotes if it looks like something else"]),
        ("name: tree\nyes: x", [":2:1: a key is a word: put it in quotes if it looks like something else"]),
        ("name: tree\n? [a]\n: x", [":2:3: a key is a word: put it in quotes if it looks like something else"]),
        ("name: tree\nleaves:\n\t- portNumber: 1", [":3:1: a tab can't indent: use spaces"]),
        ("name: tree\n---\nname: other", [":2:1: a second document begins here: the file has one"]),
        ("name: [", [":1:8: while parsing a flow node: expected the node content, but found '<stream end>'"]),
        ("name: *gone", [":1:7: found undefined alias 'gone'"]),
        ("name: !!python/object/apply:os.system [id]",
         [":1:7: tag:yaml.org,2002:python/object/apply:os.system is not used here: write a plain value",
          ":1:1: name: Input should be a valid string"]),
        ("name: !secret x",
         [":1:7: !secret is not used here: write a plain value", ":1:1: name: Input should be a valid string"]),
        ("name: tree\nleaves:\n- {portNumber: 0}",
         [":3:4: leaves[0].portNumber: Input should be greater than or equal to 1"]),
        ("name: tree\nleaves:\n- {portNumber: '80', protocol: grcp}",
         [":3:4: leaves[0].portNumber: Input should be a valid integer",
          ":3:22: leaves[0].protocol: Input should be 'grpc' or 'http2': did you mean grpc?"]),
        ("name: tree\nleaves:\n- {}\n- {portNumber: 1, port: 2}",
         [":3:3: leaves[0]: portNumber is missing",
          ":4:19: leaves[1].port: there is no such key: known: portNumber, protocol"]),
        ("name: tree\ninner: {portNumbre: 1}",
         [":2:1: inner: portNumber is missing",
          ":2:9: inner.portNumbre: there is no such key: did you mean portNumber?"]),
        ("name: tree\nroot: aok", [":2:1: root: there is no root aok: did you mean oak?"]),
        ("name: tree\nroot: birch\nleafs: []",
         [":2:1: root: there is no root birch: known: oak, elm",
          ":3:1: leafs: there is no such key: did you mean leaves?"]),
        (b"name: \xff", [": it is not text in UTF-8"]),
        ("name: tree\x00", [": unacceptable character #x0000: special characters are not allowed"]),
        ("a: &a [*a]", [":1:4: an alias holds itself"]),
        ("a: " + "[" * 60 + "]" * 60, [":1:53: it is nested deeper than 50"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str | bytes, told: list[str]) -> None:
    found = faults(tmp_path, text)
    assert sorted(found) == sorted(told)


def test_a_bomb_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    started = time.monotonic()
    (told,) = faults(tmp_path, "\n".join(lines))
    assert "with its aliases it has more than 100,000 values" in told
    assert time.monotonic() - started < 5


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    assert faults(tmp_path, "name: " + "x" * 2**20) == [": it is larger than 1024 KiB"]


def test_very_many_faults_are_cut(tmp_path: Path) -> None:
    found = faults(tmp_path, "name: tree\n" + "".join(f"k{number}: 1\n" for number in range(80)))
    assert len(found) == 51
    assert found[-1] == ": and 30 more"
