"""From manifests to Envoy's files, as people do it."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import AUTHMESH
from tests.kit.app_mesh import SAMPLES


def authmesh(*arguments: object) -> tuple[int, str, str]:
    done = subprocess.run([AUTHMESH, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_manifests_become_a_mesh_yaml_that_is_checked_and_rendered(tmp_path: Path) -> None:
    mesh = tmp_path / "mesh.yaml"
    status, output, errors = authmesh("mesh", "import", SAMPLES / "mtls-sds.yaml", "--out", mesh)
    assert (status, errors) == (0, "")
    assert "carried: 1 Mesh, 2 VirtualNode, 1 VirtualService" in output
    assert "VirtualNode easel: backendDefaults.clientPolicy.tls.mode: App Mesh has no such field" in output
    status, output, errors = authmesh("mesh", "check", "--file", mesh)
    assert (status, errors) == (0, "")
    assert "easel_paint: Envoy takes its files" in output
    assert authmesh("mesh", "render", "--file", mesh, "--out", tmp_path / "envoy")[0] == 0
    listeners = yaml.safe_load((tmp_path / "envoy" / "palette_paint" / "lds.yaml").read_text())["resources"]
    assert [one["name"] for one in listeners] == ["lds_ingress_0.0.0.0_15000"]
    clusters = yaml.safe_load((tmp_path / "envoy" / "easel_paint" / "cds.yaml").read_text())["resources"]
    assert "cds_egress_paint_palette_paint_grpc_9090" in [one["name"] for one in clusters]
    again = authmesh(
        "mesh", "render", "--file", mesh, "--target", "app-mesh", "--namespace", "paint", "--out", tmp_path / "k"
    )
    assert again[0] == 0
    assert authmesh("mesh", "import", tmp_path / "k", "--out", tmp_path / "again.yaml")[0] == 0
    assert (tmp_path / "again.yaml").read_text() == mesh.read_text()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("weight: 100", "weight: 101", "less than or equal to 100"),
        ("methodName", "methodName", ""),
    ],
)
def test_a_fault_writes_nothing(before: str, after: str, told: str, tmp_path: Path) -> None:
    broken = tmp_path / "m.yaml"
    text = (SAMPLES / "retries.yaml").read_text()
    broken.write_text(text.replace(before, after) if told else "kind: Pod\napiVersion: v1\n")
    status, output, errors = authmesh("mesh", "import", broken, "--out", tmp_path / "mesh.yaml")
    assert (status, output) == (1, "")
    assert told in errors
    assert errors.endswith("Nothing was written.\n")
    assert not (tmp_path / "mesh.yaml").exists()


def test_a_mesh_without_access_rules_has_two_targets(tmp_path: Path) -> None:
    mesh = tmp_path / "mesh.yaml"
    authmesh("mesh", "import", SAMPLES / "retries.yaml", "--out", mesh)
    status, _, errors = authmesh("mesh", "render", "--file", mesh, "--target", "kubernetes", "--out", tmp_path / "k")
    assert (status, errors) == (
        1,
        "authmesh: a mesh without access rules can't be rendered for kubernetes: choose from envoy, app-mesh\n",
    )
    mesh.write_text(mesh.read_text().replace("virtualNode: palette_paint", "virtualNode: pallete_paint"))
    status, _, errors = authmesh("mesh", "check", "--file", mesh)
    assert status == 1
    assert "there is no virtual node pallete_paint: did you mean palette_paint?" in errors
