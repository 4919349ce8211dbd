"""deploy/kubernetes: what is committed is what `make gen` writes."""

import re
from pathlib import Path

from typer.testing import CliRunner

from mesh.cli import app

CHECKOUT = Path(__file__).parents[3]
BASE = CHECKOUT / "deploy" / "kubernetes" / "base"


def test_the_base_is_rendered_from_mesh_yaml(tmp_path: Path) -> None:
    (line,) = re.findall(r"authmesh (mesh render .*) --out deploy/kubernetes/base", (CHECKOUT / "Makefile").read_text())
    result = CliRunner().invoke(app, [*line.split(), "--out", str(tmp_path / "base")])
    assert result.exit_code == 0, result.output
    fresh, committed = contents(tmp_path / "base"), contents(BASE)
    wrong = [name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name)]
    assert not wrong, f"`make gen` writes {', '.join(sorted(wrong))} anew: commit that"


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}
