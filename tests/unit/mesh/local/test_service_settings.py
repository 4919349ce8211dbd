"""Settings of services that may be chosen for a local mesh."""

import importlib
import re
from pathlib import Path

import pytest

from mesh.local import service_settings
from mesh.local.options import Options
from mesh.model.mesh import load_mesh
from mesh.operator.errors import OperatorError
from mesh.operator.local_service import local_service
from mesh.settings import ProcessSettings

NODES = tuple(load_mesh().nodes)
OF_THE_STACK = {name for node in NODES for name in local_service(node).outputs}
DOCS = Path(__file__).parents[4] / "docs"


def settings_of(node: str) -> type[ProcessSettings]:
    module = importlib.import_module(f"services.{node}.settings")
    found: type[ProcessSettings] = next(
        value
        for name, value in vars(module).items()
        if name.endswith("Settings") and value.__module__ == module.__name__
    )
    return found


@pytest.mark.parametrize("node", NODES)
def test_they_are_what_the_service_reads(node: str) -> None:
    assert service_settings._variables(node) == {name.upper() for name in settings_of(node).model_fields}


def test_a_service_gets_its_own_and_those_of_every_process() -> None:
    environment = {
        "SIGNING_ALGORITHM": "RS256",
        "LOG_LEVEL": "debug",
        "CHECKPOINT_SECONDS": "5",
        "NODE": "other",
        "DRAIN_SECONDS": "",
        "HOME": "/",
    }
    assert service_settings.chosen("token", environment) == {"SIGNING_ALGORITHM": "RS256", "LOG_LEVEL": "debug"}
    assert service_settings.chosen("audit", environment) == {"CHECKPOINT_SECONDS": "5", "LOG_LEVEL": "debug"}


@pytest.mark.parametrize("name", sorted(OF_THE_STACK))
def test_what_the_mesh_makes_itself_is_refused(name: str) -> None:
    service_settings.refuse_others(NODES, {name: ""})
    with pytest.raises(OperatorError, match=f"{name} can't be chosen for a local mesh"):
        service_settings.refuse_others(NODES, {name: "other"})


def test_every_setting_that_the_docs_name_is_passed_on_or_refused() -> None:
    settings = frozenset[str]().union(*map(service_settings._variables, NODES))
    text = "".join(page.read_text() for page in DOCS.rglob("*.md"))
    named = settings & set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", text))
    assert {"SIGNING_ALGORITHM", "SIGNING_KEYS", "CHECKPOINT_SECONDS", "AUDIT_CHECKPOINT_KEY"} <= named
    passed_on = {
        name for name in named for node in NODES if name in service_settings.chosen(node, dict.fromkeys(named, "1"))
    }
    of_the_mesh = {
        name
        for name in named & service_settings.OF_THE_MESH
        if name.lower().removesuffix("_seconds") in Options.__slots__
    }
    assert named - passed_on - of_the_mesh == named & OF_THE_STACK | named & service_settings.OF_THE_MACHINE
