"""`authmesh mesh check` and `render`, as an operator runs them."""

import subprocess
import sys
from pathlib import Path

import pytest

from mesh.model.mesh import DEFAULT_FILE

AUTHMESH = Path(sys.executable).parent / "authmesh"


def authmesh(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AUTHMESH, "mesh", *arguments], capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A mesh.yaml to change."""
    file = tmp_path / "mesh.yaml"
    file.write_text(DEFAULT_FILE.read_text())
    return file


def test_the_mesh_of_this_package_is_fine() -> None:
    done = authmesh("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "edge: Envoy takes its files" in done.stdout
    assert "authmesh.auth.v1.AuthService/SignIn: requests up to 4 KiB" in done.stdout
    assert "edge: connections: 4,000 x" in done.stdout


@pytest.mark.parametrize(("old", "new", "said"), [
    ("maxRequests: 4000", "maxRequests: 40000", "lower maxConnections, maxRequests"),
    ("backends: [token.authmesh, user.authmesh]\n- name: audit", "backends: [token.authmesh]\n- name: audit",
     "does not list user among its backends"),
    ("egressFilter: DROP_ALL", "egressFilter: ALLOW_ALL", "egressFilter: "),
])  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(changed: Path, old: str, new: str, said: str) -> None:
    text = changed.read_text()
    assert old in text
    changed.write_text(text.replace(old, new))
    done = authmesh("check", "--file", str(changed))
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_envoy_refuses_is_told_with_its_words(changed: Path) -> None:
    changed.write_text(changed.read_text().replace("trustDomain: authmesh", "trustDomain: authmesh\n").replace(
        "interval: 5s, timeout: 2s", "interval: 5s, timeout: 0s"
    ))  # fmt: skip
    done = authmesh("check", "--file", str(changed))
    assert done.returncode == 1
    assert "Envoy refuses its files" in done.stdout


def test_what_a_sidecar_is_given_is_written(tmp_path: Path) -> None:
    done = authmesh("render", "--target", "envoy", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "auth" / "bootstrap.yaml").exists()
    assert (tmp_path / "out" / "edge" / "lds.yaml").exists()
    done = authmesh("render", "--target", "other", "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stderr) == (
        1,
        "authmesh: other is not a target: choose from envoy, kubernetes, gateway-api, app-mesh, app-mesh-api\n",
    )
