"""The edge serves its OpenAPI document, and answers as the document says."""

import re
import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jsonschema
import pytest

from tests.e2e.conftest import Person, RunningMesh


@pytest.fixture
async def http(mesh: RunningMesh) -> AsyncIterator[httpx.AsyncClient]:
    trust = ssl.create_default_context(cafile=mesh.status["ca_file"])
    async with httpx.AsyncClient(base_url=mesh.status["edge"], verify=trust, timeout=15) as client:
        yield client


def check(document: dict[str, Any], path: str, method: str, status: str, body: Any) -> None:
    """Holds a body to the schema of an operation."""
    response = document["paths"][path][method]["responses"][status]
    if "$ref" in response:
        response = document["components"]["responses"]["Error"]
    schema = response["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator(
        {**schema, "components": document["components"]}, format_checker=jsonschema.FormatChecker()
    ).validate(body)


async def test_the_document_needs_no_token_and_describes_what_is_answered(
    http: httpx.AsyncClient, person: Person
) -> None:
    answer = await http.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    document = answer.json()
    assert document["openapi"] == "3.1.0"
    bearer = {"authorization": f"Bearer {person.token}"}
    made = await http.post("/v1/resources", json={"displayName": "described"}, headers=bearer)
    check(document, "/v1/resources", "post", "200", made.json())
    listed = await http.get("/v1/resources", params={"pageSize": 1}, headers=bearer)
    check(document, "/v1/resources", "get", "200", listed.json())
    credentials = {"email": person.email, "password": person.password, "clientId": "demo"}
    check(document, "/v1/auth:signIn", "post", "200", (await http.post("/v1/auth:signIn", json=credentials)).json())
    check(document, "/v1/users/{user}", "get", "200", (await http.get("/v1/users/me", headers=bearer)).json())
    refused = await http.get("/v1/users/me")
    assert refused.status_code == 401
    check(document, "/v1/users/{user}", "get", "default", refused.json())


async def test_each_operation_is_one_that_the_edge_knows(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    for path, operations in document["paths"].items():
        for method in operations:
            answer = await http.request(
                method, re.sub(r"\{\w+\}", "00000000-0000-4000-8000-000000000000", path), json={}
            )
            reason = next((detail.get("reason") for detail in answer.json().get("details", [])), "")
            assert (answer.status_code, reason) != (404, "NOT_IMPLEMENTED"), (method, path)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_the_document_can_only_be_read(http: httpx.AsyncClient, method: str) -> None:
    assert (await http.request(method, "/openapi.json")).status_code == 404
