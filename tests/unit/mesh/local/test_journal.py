"""What a killed run left behind is ended; strangers are not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from mesh.local.journal import Journal
from mesh.operator.identity import Identity
from mesh.operator.state_dir import place

STUBBORN = (
    "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)


def test_leftovers_are_ended(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "60"])
    Journal(tmp_path / "processes").add(process.pid, signal.SIGTERM)
    assert Journal(tmp_path / "processes").end_leftovers() == [process.pid]
    assert process.wait(1) == -signal.SIGTERM
    assert Journal(tmp_path / "processes").end_leftovers() == []


def test_one_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline()
    Journal(tmp_path / "processes").add(process.pid, signal.SIGTERM)
    Journal(tmp_path / "processes").end_leftovers(grace=0.1)
    assert process.wait(1) == -signal.SIGKILL
    process.stdout.close()


def test_a_stranger_with_the_pid_of_a_leftover_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        line = {"pid": stranger.pid, "started": "an earlier boot/5", "stop_signal": 15, "place": place(tmp_path)}
        (tmp_path / "processes").write_text(json.dumps(line) + "\n")
        assert Journal(tmp_path / "processes").end_leftovers() == []
        time.sleep(0.05)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_the_processes_of_the_mesh_that_a_copy_was_made_of_are_left_alone(tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.mkdir()
    process = subprocess.Popen(["sleep", "60"])
    Journal(original / "processes").add(process.pid, signal.SIGTERM)
    shutil.copytree(original, tmp_path / "copy")
    assert Journal(tmp_path / "copy" / "processes").end_leftovers() == []
    assert process.poll() is None
    assert Journal(original / "processes").end_leftovers() == [process.pid]
    process.wait(1)


def test_a_line_cut_short_is_passed_over(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "60"])
    identity = Identity.of(process.pid)
    assert identity
    whole = json.dumps({"pid": identity.pid, "started": identity.started, "stop_signal": 15, "place": place(tmp_path)})
    (tmp_path / "processes").write_text('{"pid": 1, "star\n' + whole + "\n[]\n")
    assert Journal(tmp_path / "processes").end_leftovers() == [process.pid]
    process.wait(1)


def test_what_has_ended_is_forgotten(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "60"])
    journal = Journal(tmp_path / "processes")
    journal.add(process.pid, signal.SIGTERM)
    journal.remove(process.pid)
    assert (tmp_path / "processes").read_text() == ""
    process.kill()
    process.wait()


def test_a_list_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "missing" / "processes")
    journal.add(os.getpid(), signal.SIGTERM)
    journal.remove(os.getpid())
