"""The image: what its Containerfile copies is all that a service needs, and it is not root."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.model.mesh import load_mesh

CHECKOUT = Path(__file__).parents[3]
CONTAINERFILE = (CHECKOUT / "deploy" / "image" / "Containerfile").read_text()
WITHOUT_CHECKOUT = """
import runpy, sys
checkout, site, module = sys.argv[1:]
sys.path = [site, *(path for path in sys.path if "site-packages" in path or not path.startswith(checkout))]
sys.argv = [module]
runpy.run_module(module, run_name="__main__")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is installed of ours."""
    folder = tmp_path_factory.mktemp("site")
    (copied,) = re.findall(r"cp -r (.*) \"\$site\"", CONTAINERFILE)
    in_build = {line.split()[1] for line in CONTAINERFILE.splitlines() if line.startswith("COPY ")}
    for name in copied.split():
        assert name.partition("/")[0] in in_build
        shutil.copytree(CHECKOUT / name, folder / Path(name).name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("node", load_mesh().nodes)
def test_a_service_starts_from_what_is_copied(site: Path, node: str) -> None:
    asked = [sys.executable, "-I", "-c", WITHOUT_CHECKOUT, str(CHECKOUT), str(site), f"services.{node}.main"]
    found = subprocess.run(asked, cwd="/", env={}, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 1, found.stderr
    assert "authmesh: environment variable NODE: Field required" in found.stderr


def test_so_does_what_makes_the_databases(site: Path) -> None:
    asked = [sys.executable, "-I", "-c", WITHOUT_CHECKOUT, str(CHECKOUT), str(site), "mesh.storage.provisioning"]
    found = subprocess.run(asked, cwd="/", env={}, capture_output=True, text=True, timeout=60, check=False)
    assert "environment variables are missing: ADMIN_URL, ADMIN_SECRET" in found.stderr


def test_what_runs_is_not_root_and_installs_nothing() -> None:
    build, run = CONTAINERFILE.split("\nFROM ")[1:]
    assert "--require-hashes" in build
    assert "--only-binary :all:" in build
    assert "\nUSER 1337:1337\n" in run
    assert "pip install" not in run
    assert "rm -rf /usr/local/lib/python3*/site-packages" in run
