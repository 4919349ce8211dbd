"""docs/security.md lists every item of ASVS 5.0, chapters V6 to V8, and the tests that it names are there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ITEMS = {
    6: (3, 12, 8, 6, 8, 4, 2, 4),
    7: (3, 4, 2, 5, 3, 2),
    8: (4, 4, 3, 2),
}
"""How many items each section of a chapter has."""


def rows() -> dict[str, str]:
    table = (ROOT / "docs/security.md").read_text().split("<!-- asvs -->")[1].split("<!-- end asvs -->")[0]
    found = re.findall(r"^\| (\d\.\d+\.\d+) \| [^|]+ \| ([^|]+) \|$", table, re.MULTILINE)
    assert len(found) == len(dict(found)), "an item is there twice"
    return dict(found)


def test_every_item_is_listed() -> None:
    expected = {
        f"{chapter}.{section}.{item}"
        for chapter, sections in ITEMS.items()
        for section, items in enumerate(sections, 1)
        for item in range(1, items + 1)
    }
    assert rows().keys() == expected


def test_what_is_named_is_in_the_tree() -> None:
    named = [name for shown in rows().values() for name in re.findall(r"`(tests/[^`]+)`", shown)]
    assert len(named) > 50
    for name in named:
        path, _, function = name.partition("::")
        tree = ast.parse((ROOT / path).read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert function in functions, name
    for shown in rows().values():
        for page in re.findall(r"(?<![\w/])((?:docs|services)/[\w/]+\.(?:md|py))\b", shown):
            assert (ROOT / page).is_file(), page
