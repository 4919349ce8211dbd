"""The map is true: every path that docs/architecture.md and docs/glossary.md name is in the tree."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
_PATH = re.compile(r"`((?:mesh|services|protos|tests|docs|deploy)/[\w./-]*)`")


def named(page: str) -> list[str]:
    return sorted(set(_PATH.findall((PROJECT / "docs" / page).read_text())))


@pytest.mark.parametrize("page", ["architecture.md", "glossary.md"])
def test_every_path_of_the_map_is_there(page: str) -> None:
    paths = named(page)
    assert len(paths) > 10
    assert [path for path in paths if not (PROJECT / path).exists()] == []


def test_every_room_of_mesh_is_on_the_map() -> None:
    rooms = {path.name for path in (PROJECT / "mesh").iterdir() if (path / "__init__.py").exists()}
    on_the_map = {path.split("/")[1] for path in named("architecture.md") if path.startswith("mesh/")}
    assert rooms - on_the_map == set()


def test_no_test_is_a_library_of_another() -> None:
    imported = re.compile(r"^from tests\.\S*test_\w+ import", re.MULTILINE)
    files = (PROJECT / "tests").rglob("*.py")
    assert [str(file) for file in files if imported.search(file.read_text())] == []
