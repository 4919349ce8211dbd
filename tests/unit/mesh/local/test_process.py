"""Which process is which, and that ours do not outlive us."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mesh.local.process import TETHER, age
from mesh.operator.identity import Identity

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")


def until(condition: "object", seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_process_is_alive_until_it_has_ended() -> None:
    process = subprocess.Popen(["sleep", "60"])
    identity = Identity.of(process.pid)
    assert identity
    assert identity.alive()
    process.kill()
    # A zombie is nobody, even before it was waited for.
    assert until(lambda: not identity.alive())
    process.wait()
    assert Identity.of(process.pid) is None


def test_a_reused_pid_is_another_process() -> None:
    assert not Identity(os.getpid(), "another boot/1").alive()


def test_another_process_with_the_pid_is_never_signalled() -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        Identity(process.pid, "another boot/1").send(signal.SIGKILL)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@linux
def test_a_tethered_program_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = f"import os,time;open({str(pid_file)!r},'w').write(str(os.getpid()));time.sleep(60)"
    tethered = (
        f"[{sys.executable!r},'-I','-S',{str(TETHER)!r},str(os.getpid()),'15','-',{sys.executable!r},'-c',{child!r}]"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import os,subprocess,time;subprocess.Popen({tethered});time.sleep(60)"]
    )
    assert until(lambda: pid_file.exists() and pid_file.read_text())
    identity = Identity.of(int(pid_file.read_text()))
    assert identity
    assert identity.alive()
    parent.kill()
    parent.wait()
    assert until(lambda: not identity.alive())


@linux
def test_a_tethered_program_does_not_start_without_its_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", TETHER, "1", "15", "-", "/bin/echo", "started"], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_program_that_does_not_exist_is_named() -> None:
    command = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), "15", "-", "/no/such/program"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "cannot execute /no/such/program" in done.stderr


def test_age_counts_from_the_start_of_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import time; time.sleep(0.3); from mesh.local.process import age; print(age())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert sys.platform != "linux" or 0.25 < float(done.stdout) < 10
    assert age() > 0
