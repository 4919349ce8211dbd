"""status.json, as scripts read it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mesh.operator.errors import OperatorError
from mesh.operator.identity import Identity
from mesh.operator.secret_file import write_private
from mesh.operator.state_dir import place
from mesh.operator.status import Demo, Health, Row, Runner, State, Status, read_status


def running(home: Path) -> Status:
    me = Identity.of(os.getpid())
    assert me
    return Status(
        state=State.READY,
        edge="https://localhost:8443",
        ca_file="/home/me/.mesh/ca.crt",
        aws_endpoint_url="http://127.0.0.1:4566",
        audit_bucket="audit",
        demo=Demo(email="demo@authmesh.example", password="p", client_id="demo"),
        processes=(Row(name="auth", pid=7, address="unix:/tmp/auth", health=Health.HEALTHY, restarts=0),),
        startup_seconds=5.1,
        memory_pss_mb=700,
        runner=Runner(pid=me.pid, started=me.started, place=place(home)),
    )


def test_it_says_what_the_contract_promises(tmp_path: Path) -> None:
    write_private(tmp_path / "status.json", running(tmp_path).model_dump_json().encode())
    content = json.loads((tmp_path / "status.json").read_text())
    promised = {
        "state",
        "edge",
        "ca_file",
        "aws_endpoint_url",
        "audit_bucket",
        "demo",
        "processes",
        "startup_seconds",
        "memory_pss_mb",
    }
    assert promised <= content.keys()
    assert content["demo"].keys() == {"email", "password", "client_id"}
    assert content["processes"] == [
        {"name": "auth", "pid": 7, "address": "unix:/tmp/auth", "health": "healthy", "lacks": [], "restarts": 0}
    ]


def test_it_is_private_because_of_the_password(tmp_path: Path) -> None:
    write_private(tmp_path / "status.json", running(tmp_path).model_dump_json().encode())
    assert (tmp_path / "status.json").stat().st_mode & 0o777 == 0o600
    assert read_status(tmp_path / "status.json") == running(tmp_path)


def test_without_a_mesh_it_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"no mesh runs in .*make run-mesh"):
        read_status(tmp_path / "status.json")


def test_the_status_of_a_killed_mesh_is_not_believed(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "60"])
    identity = Identity.of(process.pid)
    assert identity
    runner = Runner(pid=identity.pid, started=identity.started, place=place(tmp_path))
    status = running(tmp_path).model_copy(update={"runner": runner})
    write_private(tmp_path / "status.json", status.model_dump_json().encode())
    assert read_status(tmp_path / "status.json").state is State.READY
    process.kill()
    process.wait()
    with pytest.raises(OperatorError, match="the last one was killed"):
        read_status(tmp_path / "status.json")


def test_the_status_in_a_copy_of_the_directory_is_not_believed_and_in_a_moved_one_it_is(tmp_path: Path) -> None:
    home = tmp_path / "mesh"
    home.mkdir()
    write_private(home / "status.json", running(home).model_dump_json().encode())
    shutil.copytree(home, tmp_path / "copy")
    with pytest.raises(OperatorError, match="it was copied from another place"):
        read_status(tmp_path / "copy" / "status.json")
    home.rename(tmp_path / "moved")
    assert read_status(tmp_path / "moved" / "status.json").state is State.READY


def test_a_failed_start_is_told(tmp_path: Path) -> None:
    failed = Status(state=State.FAILED, error="port 8443 is in use")
    write_private(tmp_path / "status.json", failed.model_dump_json().encode())
    with pytest.raises(OperatorError, match="failed: port 8443 is in use"):
        read_status(tmp_path / "status.json")


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text("{")
    with pytest.raises(OperatorError, match="can't be read"):
        read_status(tmp_path / "status.json")
