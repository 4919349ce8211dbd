"""Somebody is deleted: nothing personal is left in any table, and the trail tells of it without telling who it was."""

import asyncio
import json
import os
import secrets
from typing import Any

import asyncpg
import pytest

from mesh.model.mesh import load_mesh
from mesh.operator.target import Target
from tests.e2e.conftest import Person, RunningMesh, eventually, sign_in_again, sign_up


async def tables(mesh: RunningMesh) -> dict[str, str]:
    """Every row of every table of every service, as text."""
    found = {}
    for node in load_mesh().nodes:
        url = Target(environment=os.environ | {"AUTHMESH_HOME": str(mesh.home)}).database_url(node)
        database = await asyncpg.connect(url)
        try:
            names = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            for name in (row["tablename"] for row in names):
                rows = await database.fetch(f'SELECT t::text AS line FROM "{name}" t')
                found[f"{node}.{name}"] = "\n".join(row["line"] for row in rows)
        finally:
            await database.close()
    return found


def hex_of(text: str) -> str:
    """As bytes of a row are shown: payloads are protobuf and JSON, in which text stands as it is."""
    return text.encode().hex()


async def left(mesh: RunningMesh, traces: list[str]) -> set[str]:
    return {
        f"{table}: {trace}"
        for table, text in (await tables(mesh)).items()
        for trace in traces
        if trace.lower() in text.lower() or hex_of(trace) in text or hex_of(trace.lower()) in text
    }


async def test_nothing_personal_is_left_anywhere(mesh: RunningMesh, person: Person, administrator: Person) -> None:
    client = mesh.clients["grpc"]
    device = f"phone-{secrets.token_hex(8)}"
    await sign_in_again(client, person, device={"instanceId": person.instance_id, "displayName": device})
    me = {"name": "users/me", "displayName": f"Ada {secrets.token_hex(8)}"}
    await client.ok("UserService/UpdateUser", {"user": me, "updateMask": "displayName"}, person.token)
    content = f"diary-{secrets.token_hex(8)}"
    mine = await client.ok("ResourceService/CreateResource", {"resource": {"content": content}}, person.token)
    other = await sign_up(mesh, client)
    theirs = await client.ok("ResourceService/CreateResource", {"resource": {"content": "plan"}}, other.token)
    share = {"name": theirs["name"], "email": person.email, "role": "ROLE_READER"}
    await client.ok("ResourceService/ShareResource", share, other.token)
    traces = [person.email, device, me["displayName"], content]
    # Otherwise the search would find nothing whatever is left.
    assert {trace.partition(": ")[2] for trace in await left(mesh, traces)} == set(traces)

    await client.ok("UserService/DeleteUser", {"name": "users/me"}, person.token)

    async def is_gone() -> bool:
        return not await left(mesh, traces)

    try:
        await eventually(is_gone, within=30)
    except TimeoutError:
        pytest.fail(f"left behind: {await left(mesh, traces)}")
    for method, request in {"UserService/GetUser": {"name": "users/me"}, "ResourceService/ListResources": {}}.items():
        assert (await client.call(method, request, person.token)).reason == "TOKEN_REVOKED"
    assert (await client.call("TokenService/RefreshToken", person.refresh)).reason == "REFRESH_INVALID"
    again = {"email": person.email, "password": person.password, "clientId": "demo"}
    assert (await client.call("AuthService/SignIn", again)).reason == "CREDENTIALS_INVALID"
    assert (
        await client.call("ResourceService/GetResource", {"name": mine["name"]}, other.token)
    ).reason == "RESOURCE_NOT_FOUND"
    assert (await mesh.inbox(person.email))[-1]["kind"] == "account_deleted"
    await trail_tells(mesh, person, administrator)
    # The address is free again.
    await client.ok("AuthService/SignUp", {"email": person.email, "password": person.password, "displayName": "Ada"})


async def trail_tells(mesh: RunningMesh, person: Person, administrator: Person) -> None:
    client = mesh.clients["grpc"]

    async def told() -> list[dict[str, Any]]:
        query = {"subject": person.name, "pageSize": 200}
        answer = await client.ok("AuditService/QueryEvents", query, administrator.token)
        return list(answer.get("events", ()))

    async def is_told() -> bool:
        types = {event["type"] for event in await told()}
        return types >= {"user.deleted", "auth.credentials_deleted", "token.subject_revoked", "audit.subject_erased"}

    await eventually(is_told, within=30)
    assert person.email not in json.dumps(await told())
    reveal = await asyncio.create_subprocess_exec(
        mesh.command,
        "audit",
        "reveal",
        env=os.environ | {"AUTHMESH_HOME": str(mesh.home)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await reveal.communicate("\n".join(json.dumps(event) for event in await told()).encode())
    assert reveal.returncode == 0
    assert b"erased" in output
    assert person.email.encode() not in output
