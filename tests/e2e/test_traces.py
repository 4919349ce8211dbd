"""From a call to its trace: every hop is in it, and strangers choose neither its id nor whether it is there."""

import secrets
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Person, RunningMesh, eventually
from tests.kit.protocols import Client

STRANGERS = "0af7651916cd43dd8448eb211c80319c"


async def trace_of(mesh: RunningMesh, request_id: str, *, services: set[str]) -> dict[str, Any]:
    """The trace of a call, once spans of all these have come."""
    async with httpx.AsyncClient(base_url=mesh.status["traces"]) as client:

        async def whole() -> dict[str, Any] | None:
            answer = await client.get(f"/api/traces/{request_id}")
            found: dict[str, Any] = answer.json()
            came = {span["service"] for span in found.get("spans", ())}
            return found if services <= came else None

        found = await eventually(whole, within=30)
        assert isinstance(found, dict)
        return found


async def test_a_sign_in_is_seen_at_every_hop(mesh: RunningMesh, client: Client, person: Person) -> None:
    request = {"email": person.email, "password": person.password, "client_id": "demo"}
    request_id = secrets.token_hex(8)
    answer = await client.call("AuthService/SignIn", request, headers=[("x-request-id", request_id)])
    assert answer.status == "OK"
    hops = {"edge", "auth ingress", "auth", "auth egress", "token ingress", "token"}
    trace = await trace_of(mesh, request_id, services=hops)
    names = {span["name"] for span in trace["spans"]}
    assert {"authmesh.auth.v1.AuthService/SignIn", "authmesh.token.v1.TokenIssuer/IssueTokens", "Argon2"} <= names
    assert {"SELECT accounts", "COMMIT", "AuthService/SignIn"} <= names
    assert len([span for span in trace["spans"] if not span["parent_id"]]) == 1
    for said in (person.email, person.password, str(person.claims["sub"])):
        assert said not in str(trace)
    status, output, _ = await mesh.authmesh("trace", trace["id"])
    assert status == 0
    assert "authmesh.auth.v1.AuthService/SignIn: OK" in output
    assert "Argon2" in output


async def test_a_refusal_is_seen_with_its_reason(mesh: RunningMesh, client: Client, person: Person) -> None:
    request = {"email": person.email, "password": "not this one, but long", "client_id": "demo"}
    request_id = secrets.token_hex(8)
    assert (await client.call("AuthService/SignIn", request, headers=[("x-request-id", request_id)])).reason
    trace = await trace_of(mesh, request_id, services={"edge", "auth"})
    (call,) = [span for span in trace["spans"] if span["service"] == "auth" and "rpc.method" in span["attributes"]]
    assert call["attributes"]["rpc.response.status_code"] == "UNAUTHENTICATED"
    assert call["attributes"]["authmesh.reason"] == "CREDENTIALS_INVALID"
    assert not call["failed"]


@pytest.mark.parametrize("flags", ["00", "01"])
async def test_strangers_choose_neither_the_trace_nor_whether_there_is_one(
    mesh: RunningMesh, person: Person, flags: str
) -> None:
    request_id = secrets.token_hex(8)
    headers = [
        ("x-request-id", request_id),
        ("traceparent", f"00-{STRANGERS}-b7ad6b7169203331-{flags}"),
        ("tracestate", "a=b"),
    ]
    answer = await mesh.clients["grpc"].call("UserService/GetUser", {"name": "users/me"}, person.token, headers)
    assert answer.status == "OK"
    trace = await trace_of(mesh, request_id, services={"edge", "user"})
    assert trace["id"] != STRANGERS


async def test_a_trace_that_is_not_there_is_said_in_one_line(mesh: RunningMesh) -> None:
    status, output, errors = await mesh.authmesh("trace", STRANGERS)
    assert (status, output) == (1, "")
    assert errors.startswith(f"authmesh: there is no trace {STRANGERS}")
    status, _, errors = await mesh.authmesh("trace", "../api")
    assert (status, "not a trace id" in errors) == (1, True)
    assert (await mesh.authmesh("trace"))[0] == 0
