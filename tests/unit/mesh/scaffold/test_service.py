"""What `authmesh new service` writes, and what it refuses. That it works is shown by tests/e2e/test_new_service.py."""

import ast
import re
import shutil
from pathlib import Path

import pytest

from mesh.contract import Contract
from mesh.model.mesh import load_mesh
from mesh.operator.errors import OperatorError
from mesh.scaffold.service import NewService, changes, write

CHECKOUT = Path(__file__).parents[4]
PLACES = ["CHANGELOG.md", "README.md", "deploy", "mesh/mesh.yaml", "protos/authmesh", "services/token"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for place in PLACES:
        if (CHECKOUT / place).is_dir():
            shutil.copytree(CHECKOUT / place, tmp_path / place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (tmp_path / place).parent.mkdir(exist_ok=True)
            shutil.copy(CHECKOUT / place, tmp_path / place)
    return tmp_path


@pytest.mark.parametrize(("name", "resource"), [
    ("orders", "order"), ("categories", "category"), ("addresses", "address"), ("branches", "branch"), ("boxes", "box"),
])  # fmt: skip
def test_the_singular_is_found(name: str, resource: str) -> None:
    assert NewService.named(name) == NewService(name, resource)


@pytest.mark.parametrize(("name", "resource", "message"), [
    ("Orders", None, "Orders is not a name"), ("my-orders", None, "is not a name"), ("../etc", None, "is not a name"),
    ("o", None, "is not a name"), ("o" * 25, None, "is not a name"), ("orders\n", None, "is not a name"),
    ("news", "New", "New is not a name"), ("data", None, "data is not a plural: name what it keeps with --resource"),
    ("mesh", "m1", "mesh is a name of the mesh's own"),
])  # fmt: skip
def test_a_name_that_can_not_be_used_is_refused(name: str, resource: str | None, message: str) -> None:
    with pytest.raises(OperatorError, match=re.escape(message)):
        NewService.named(name, resource)


@pytest.mark.parametrize("new", [NewService("orders", "order"), NewService("aches", "ache"), NewService("zz", "z1")])
def test_each_file_is_whole(checkout: Path, new: NewService) -> None:
    made = changes(checkout, new)
    for path, text in made.items():
        assert not re.search(r"\{\{(?![{ ])\w+\}\}", text), path
        if path.suffix == ".py":
            ast.parse(text)
            assert max(map(len, text.splitlines())) <= 120, path
    write(checkout, made)
    mesh = load_mesh(checkout / "mesh" / "mesh.yaml")
    assert list(mesh.nodes)[-1] == new.name
    assert f"{new.name}-settings" in (checkout / "deploy/kubernetes/overlays/eks/kustomization.yaml").read_text()
    for stack in ("compute", "events", "functions", "keys"):
        assert new.name in (checkout / "deploy" / "aws" / f"{stack}.yaml").read_text()


def test_one_that_exists_is_refused_and_nothing_is_written(checkout: Path) -> None:
    new = NewService("orders", "order")
    write(checkout, changes(checkout, new))
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    with pytest.raises(OperatorError, match=r"orders exists already: .*services/orders/main.py"):
        changes(checkout, new)
    assert {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()} == before


def test_a_place_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="not a checkout of authmesh"):
        changes(tmp_path, NewService("orders", "order"))


@pytest.mark.parametrize(("file", "line"), [
    ("mesh/mesh.yaml", "virtualNodes:\n"), ("services/token/roles.yaml", "default:\n"),
    ("README.md", "<!-- /status -->\n"),
])  # fmt: skip
def test_a_file_without_the_place_is_named(checkout: Path, file: str, line: str) -> None:
    text = (checkout / file).read_text()
    assert line in text
    (checkout / file).write_text(text.replace(line, ""))
    with pytest.raises(OperatorError, match=f"{file} was changed: it has no line"):
        changes(checkout, NewService("orders", "order"))


def test_a_mesh_that_ours_does_not_fit_is_left_alone(checkout: Path) -> None:
    file = checkout / "mesh" / "mesh.yaml"
    file.write_text(file.read_text().replace("&listener", "&other").replace("*listener", "*other"))
    with pytest.raises(OperatorError, match=r"mesh.yaml was changed, and ours does not fit"):
        write(checkout, changes(checkout, NewService("orders", "order")))
    assert not (checkout / "services" / "orders").exists()


def test_numbers_of_event_types_are_free(checkout: Path) -> None:
    new = NewService("orders", "order")
    text = changes(checkout, new)[Path("protos/authmesh/audit/v1/audit_event.proto")]
    numbers = re.findall(r"^  EVENT_TYPE_\w+ = (\d+)", text, re.MULTILINE)
    assert len(numbers) == len(set(numbers))
    assert text.rstrip().endswith("}")


def test_packages_of_the_contract_are_no_names() -> None:
    packages = {name.split(".")[1] for name in Contract.load().services}
    for package in sorted(packages):
        assert (CHECKOUT / "services" / package).is_dir(), "a context without a folder: add it to the names taken"
