"""The directory of a local mesh."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from mesh.local.state_dir import locked, prepare, rotate_logs
from mesh.operator.errors import OperatorError
from mesh.operator.state_dir import StateDir


def test_the_environment_chooses_it(tmp_path: Path) -> None:
    assert StateDir.chosen({"AUTHMESH_HOME": str(tmp_path)}).path == tmp_path


def test_it_is_mesh_in_the_project_by_default() -> None:
    assert StateDir.chosen({}).path.name == ".mesh"


def test_it_is_private(tmp_path: Path) -> None:
    home = StateDir(tmp_path / "deep" / "er")
    prepare(home)
    assert home.path.stat().st_mode & 0o777 == 0o700
    assert home.secrets.stat().st_mode & 0o777 == 0o700


def test_a_second_instance_is_told_who_holds_the_first(tmp_path: Path) -> None:
    home = StateDir(tmp_path)
    with (
        locked(home),
        pytest.raises(OperatorError, match=rf"runs in .* already \(pid {os.getpid()}\)"),
        locked(home),
    ):
        pass
    with locked(home):
        pass


def test_too_little_room_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10 * 2**20))
    with pytest.raises(OperatorError, match="10 MiB left and the mesh needs"):
        prepare(StateDir(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OperatorError, match=r"permission denied.*AUTHMESH_HOME"):
        prepare(StateDir(tmp_path / "mesh"))


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "mesh").write_text("")
    with pytest.raises(OperatorError, match=f"cannot make the directory {tmp_path / 'mesh'}"):
        prepare(StateDir(tmp_path / "mesh"))


def test_logs_of_the_run_before_are_kept_once(tmp_path: Path) -> None:
    home = StateDir(tmp_path)
    prepare(home)
    home.log("auth").write_text("one")
    rotate_logs(home)
    home.log("auth").write_text("two")
    rotate_logs(home)
    assert [file.name for file in home.logs.iterdir()] == ["auth.log.1"]
    assert (home.logs / "auth.log.1").read_text() == "two"
