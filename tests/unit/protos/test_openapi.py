"""The OpenAPI document says what the edge does."""

import json
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from mesh.contract import Contract

METHODS = ("get", "post", "patch", "put", "delete")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    file = Path(__file__).parents[3] / "gen" / "authmesh" / "openapi.json"
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    validate(document)


def test_every_json_form_of_the_contract_is_one_operation(document: dict[str, Any]) -> None:
    described = [
        operations[kind]["operationId"]
        for operations in document["paths"].values()
        for kind in METHODS
        if kind in operations
    ]
    forms = [binding for rpc in Contract.load().rpcs.values() for binding in rpc.http]
    assert len(described) == len(set(described)) == len(forms)


def test_what_a_field_rule_refuses_the_schema_refuses(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["resource.v1.Resource"]["properties"]["displayName"]["maxLength"] == 200
    listing = {item["name"]: item for item in document["paths"]["/v1/resources"]["get"]["parameters"]}
    assert listing["pageSize"]["schema"] == {"type": "integer", "format": "int32", "minimum": 0, "maximum": 200}


def test_a_public_method_needs_no_token_and_another_one_names_its_scopes(document: dict[str, Any]) -> None:
    assert document["paths"]["/v1/auth:signIn"]["post"]["security"] == []
    assert document["paths"]["/v1/resources"]["post"]["security"] == [{"accessToken": ["resource:write"]}]


def test_a_resource_name_becomes_path_parameters(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/users/{user}/sessions/{session}"]["delete"]
    assert [item["name"] for item in operation["parameters"]] == ["user", "session"]
