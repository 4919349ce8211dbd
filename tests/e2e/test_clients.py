"""Clients through the real edge: kept by an administrator, in three protocols; and a backend that does what
docs/clients.md shows."""

import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Person, RunningMesh, eventually
from tests.kit.clients import assertion, jwks
from tests.kit.protocols import Client, JsonClient
from tests.kit.tokens import Mint

DOCS = Path(__file__).parents[2] / "docs" / "clients.md"


@pytest.fixture
async def admin_token(mesh: RunningMesh, administrator: Person) -> str:
    """With all scopes that an administrator may have."""
    request = {"email": administrator.email, "password": administrator.password, "clientId": "demo"}
    return str((await mesh.clients["grpc"].ok("AuthService/SignIn", request))["tokens"]["accessToken"])


async def issuer(mesh: RunningMesh) -> str:
    client = mesh.clients["json"]
    assert isinstance(client, JsonClient)
    return str((await client.send("GET", "/.well-known/oauth-authorization-server")).body["issuer"])


async def test_an_administrator_keeps_clients(client: Client, admin_token: str, person: Person) -> None:
    name = f"clients/c{uuid.uuid4().hex[:10]}"
    wanted = {"name": name, "displayName": "App", "scopes": ["user:read"], "accessTokenLifetime": "60s"}
    created = await client.ok("ClientService/CreateClient", {"client": wanted}, admin_token)
    assert (created["accessTokenLifetime"], created["refreshGrace"]) == ("60s", "30s")
    assert await client.ok("ClientService/GetClient", {"name": name}, admin_token) == created
    listed = await client.ok("ClientService/ListClients", {"pageSize": 200}, admin_token)
    assert {"clients/demo", "clients/backend", name} <= {one["name"] for one in listed["clients"]}
    again = await client.call("ClientService/CreateClient", {"client": wanted}, admin_token)
    assert again.outcome == ("ALREADY_EXISTS", "CLIENT_ALREADY_EXISTS")
    update = {"client": {"name": name, "sessionLimit": 2, "etag": created["etag"]}}
    assert (await client.ok("ClientService/UpdateClient", update, admin_token))["sessionLimit"] == 2
    assert (await client.call("ClientService/UpdateClient", update, admin_token)).outcome == (
        "ABORTED",
        "ETAG_MISMATCH",
    )
    bad = await client.call("ClientService/UpdateClient", {"client": {"name": name, "jwks": "{}"}}, admin_token)
    assert (bad.outcome, bad.fields) == (("INVALID_ARGUMENT", "FIELD_INVALID"), ("client.jwks",))
    await client.ok("ClientService/DeleteClient", {"name": name}, admin_token)
    assert (await client.call("ClientService/GetClient", {"name": name}, admin_token)).outcome == (
        "NOT_FOUND",
        "CLIENT_NOT_FOUND",
    )
    assert (await client.call("ClientService/ListClients", {}, person.token)).outcome == (
        "PERMISSION_DENIED",
        "SCOPE_MISSING",
    )


async def test_a_deleted_client_s_people_are_out_at_once_and_everywhere(
    mesh: RunningMesh, admin_token: str, person: Person
) -> None:
    client = mesh.clients["grpc"]
    name = f"clients/c{uuid.uuid4().hex[:10]}"
    await client.ok("ClientService/CreateClient", {"client": {"name": name, "scopes": ["resource:read"]}}, admin_token)
    request = {"email": person.email, "password": person.password, "clientId": name.removeprefix("clients/")}
    tokens = (await client.ok("AuthService/SignIn", request))["tokens"]
    await client.ok("ResourceService/ListResources", {}, tokens["accessToken"])
    await client.ok("ClientService/DeleteClient", {"name": name}, admin_token)

    async def refused() -> bool:
        answer = await client.call("ResourceService/ListResources", {}, tokens["accessToken"])
        return answer.outcome == ("UNAUTHENTICATED", "TOKEN_REVOKED")

    await eventually(refused, within=2)
    spend = {"refreshToken": tokens["refreshToken"], "clientId": name.removeprefix("clients/")}
    assert (await client.call("TokenService/RefreshToken", spend)).outcome == ("UNAUTHENTICATED", "REFRESH_INVALID")
    # The same person with another client is none the worse for it.
    await client.ok("ResourceService/ListResources", {}, person.token)


async def test_a_backend_does_what_the_docs_show(mesh: RunningMesh, admin_token: str, person: Person) -> None:
    make_key, ask = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    backend: dict[str, Any] = {"edge_url": mesh.status["edge"], "ca_file": mesh.status["ca_file"]}
    assert len([line for line in ask.splitlines() if line]) <= 10
    exec(make_key, backend)
    assert "private" not in backend["jwks"]
    client = mesh.clients["grpc"]
    await client.ok(
        "ClientService/UpdateClient", {"client": {"name": "clients/backend", "jwks": backend["jwks"]}}, admin_token
    )
    exec(ask, backend)

    async def known() -> bool:
        # A Token process may remember the client without its key for a second.
        try:
            return bool(backend["introspect"](person.token)["active"])
        except backend["httpx"].HTTPStatusError:
            return False

    await eventually(known, within=3)
    assert backend["introspect"](person.token)["sub"] == person.claims["sub"]
    assert backend["introspect"]("nonsense") == {"active": False}
    await client.ok("TokenService/RevokeToken", {"token": person.token})

    async def inactive() -> bool:
        return bool(backend["introspect"](person.token) == {"active": False})

    await eventually(inactive, within=2)


async def test_a_client_s_own_token_is_nobody_s(mesh: RunningMesh, admin_token: str) -> None:
    mint, audience, name = Mint("k1"), await issuer(mesh), f"c{uuid.uuid4().hex[:10]}"
    scopes = ["session:manage", "user:read", "user:write", "resource:read", "resource:write"]
    wanted = {"name": f"clients/{name}", "confidential": True, "scopes": scopes, "jwks": jwks(mint)}
    await mesh.clients["grpc"].ok("ClientService/CreateClient", {"client": wanted}, admin_token)
    for client in mesh.clients.values():
        own = await client.ok("TokenService/IssueClientToken", {"clientAssertion": assertion(mint, name, audience)})
        assert sorted(own["scopes"]) == sorted(scopes)
        assert not own.keys() & {"refreshToken", "session", "refreshExpireTime"}
        for method, request in (
            ("UserService/GetUser", {"name": "users/me"}),
            ("ResourceService/ListResources", {}),
            ("ResourceService/CreateResource", {"resource": {"displayName": "x"}}),
            ("TokenService/ListSessions", {"parent": "users/me"}),
            ("TokenService/RevokeAllSessions", {"parent": "users/me"}),
        ):
            answer = await client.call(method, request, own["accessToken"])
            assert answer.status in ("PERMISSION_DENIED", "NOT_FOUND", "INVALID_ARGUMENT"), (method, answer)
        used = assertion(mint, name, audience)
        await client.ok("TokenService/IssueClientToken", {"clientAssertion": used})
        again = await client.call("TokenService/IssueClientToken", {"clientAssertion": used})
        assert again.outcome == ("UNAUTHENTICATED", "CREDENTIALS_INVALID")
    # Nobody signs in with it, whatever password they know: it isn't even looked at.
    person = {"email": "nobody@example.com", "password": "correct horse", "clientId": name}
    refused = await mesh.clients["json"].call("AuthService/SignIn", person)
    assert (*refused.outcome, *refused.fields) == ("INVALID_ARGUMENT", "FIELD_INVALID", "client_id")
