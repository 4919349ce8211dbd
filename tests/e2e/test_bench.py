"""`make bench` measures: each of its tables is filled, however short the rounds are."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("name", ["verify", "rpc", "token"])
def test_a_measure_fills_its_table(name: str, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench", name, "--rounds", "1", "--seconds", "0.5", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    table = (tmp_path / f"{name}.md").read_text()
    assert len(re.findall(r"^\|.*\d+ to \d+.*\|$", table, re.MULTILINE)) >= 3, table
