"""The committed JSON Schema is the model's, and takes what the model takes."""

import json
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from mesh.cli import app
from mesh.model.mesh import DEFAULT_FILE
from mesh.model.schema import schema_text

COMMITTED = DEFAULT_FILE.with_name("mesh.schema.json")


@pytest.fixture
def raw() -> Any:
    return json.loads(json.dumps(yaml.safe_load(DEFAULT_FILE.read_text())))


def faults(raw: Any) -> list[str]:
    return [error.json_path for error in Draft202012Validator(json.loads(COMMITTED.read_text())).iter_errors(raw)]


def test_the_committed_schema_is_the_models() -> None:
    assert COMMITTED.read_text() == schema_text(), "authmesh mesh schema > mesh/mesh.schema.json"
    assert CliRunner().invoke(app, ["mesh", "schema"]).stdout == schema_text()
    assert COMMITTED.name in DEFAULT_FILE.read_text().splitlines()[0]


def test_it_takes_the_mesh_and_refuses_what_the_model_refuses(raw: Any) -> None:
    Draft202012Validator.check_schema(json.loads(COMMITTED.read_text()))
    assert faults(raw) == []
    raw["virtualNodes"][0]["listener"]["conectionPool"] = {}
    raw["virtualGateway"]["maxConnections"] = "many"
    raw["virtualRouters"][0]["routes"][0]["grpcRoute"]["timeout"]["perRequest"] = "15 seconds"
    raw["egressFilter"] = "ALLOW_ALL"
    assert sorted(faults(raw)) == [
        "$.egressFilter",
        "$.virtualGateway.maxConnections",
        "$.virtualNodes[0].listener",
        "$.virtualRouters[0].routes[0].grpcRoute.timeout.perRequest",
    ]
