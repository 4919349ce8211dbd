"""A checkout may lie anywhere, be moved and be copied: its environments know where they were made."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile and the command of one, with an environment that only tells which code it would run."""
    place = tmp_path / "ein größerer Ort, dem's gefällt"
    place.mkdir()
    shutil.copy(PROJECT / "Makefile", place)
    assert make(place) == "made"
    bin_directory = place / ".venv" / "app" / "bin"
    bin_directory.mkdir(parents=True)
    shutil.copy(PROJECT / "mesh" / "local" / "authmesh.sh", bin_directory / "authmesh")
    (bin_directory / "python").write_text('#!/bin/sh\necho "ran $*"\n')
    for file in bin_directory.iterdir():
        file.chmod(0o755)
    return place


def make(place: Path) -> str:
    """Whether `make` makes the environments there anew."""
    before = (place / ".venv" / "kept").exists()
    subprocess.run(
        ["make", "--silent", ".venv/place"], cwd=place, env={"PATH": os.environ["PATH"], "LC_ALL": "C"}, check=True
    )
    kept = before and (place / ".venv" / "kept").exists()
    (place / ".venv" / "kept").touch()
    return "kept" if kept else "made"


def authmesh(command: Path, directory: Path) -> tuple[int, str]:
    done = subprocess.run(
        [command, "status"],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        capture_output=True,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).decode()


def test_an_environment_is_made_once(checkout: Path) -> None:
    modified = (checkout / ".venv" / "place").stat().st_mtime_ns
    assert make(checkout) == "kept"
    assert (checkout / ".venv" / "place").stat().st_mtime_ns == modified


def test_the_command_runs_from_any_directory_and_by_a_link(checkout: Path, tmp_path: Path) -> None:
    command = checkout / ".venv" / "app" / "bin" / "authmesh"
    (tmp_path / "link").symlink_to(command)
    for name, directory in ((command, checkout), (command, Path("/")), (tmp_path / "link", tmp_path)):
        assert authmesh(name, directory) == (0, "ran -I -m mesh.cli status\n")


@pytest.mark.parametrize(
    "how", [shutil.move, lambda old, new: shutil.copytree(old, new, symlinks=True)], ids=["moved", "copied"]
)
def test_elsewhere_the_command_says_what_to_do_and_make_does_it(checkout: Path, tmp_path: Path, how: object) -> None:
    new = tmp_path / "new"
    assert callable(how)
    how(checkout, new)
    code, said = authmesh(new / ".venv" / "app" / "bin" / "authmesh", tmp_path)
    assert code == 1
    assert (
        said
        == f"authmesh: this environment was made in {checkout}: run `make run-mesh` in {new}, which makes it again\n"
    )
    assert make(new) == "made"
    assert make(new) == "kept"


def test_an_environment_finds_the_code_by_a_path_that_every_locale_can_read() -> None:
    listed = list(Path(sys.prefix).glob("lib/python3*/site-packages/_authmesh.pth"))
    lines = listed[0].read_text(encoding="ascii").splitlines()
    assert [(listed[0].parent / line).resolve() for line in lines] == [PROJECT, PROJECT / "gen"]
    assert not any(Path(line).is_absolute() for line in lines)
