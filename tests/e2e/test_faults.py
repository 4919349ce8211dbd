"""What dies comes back, and while it is away nobody loses a token or is let in."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.e2e.conftest import Person, RunningMesh, eventually, sign_in_again, sign_up
from tests.kit.admin_url import admin_url
from tests.kit.protocols import Client

pytestmark = pytest.mark.slow


def children(parent: int) -> list[int]:
    """Processes that a process has started."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@pytest.mark.parametrize("name", ["resource", "resource-sidecar", "token", "token-sidecar", "edge"])
async def test_a_killed_process_comes_back_and_calls_succeed_again(
    mesh: RunningMesh, client: Client, person: Person, name: str
) -> None:
    restarts = mesh.row(name)["restarts"]
    await mesh.kill(name)
    assert mesh.row(name)["restarts"] == restarts + 1

    async def works() -> bool:
        answer = await client.call("ResourceService/ListResources", {}, person.token)
        assert answer.status in {"OK", "UNAVAILABLE"}, answer
        return answer.status == "OK"

    await eventually(works)


async def test_without_its_database_a_service_is_unavailable_and_comes_back_by_itself(
    mesh: RunningMesh, client: Client, person: Person
) -> None:
    server = [mesh.row("postgres")["pid"], *children(mesh.row("postgres")["pid"])]
    for pid in server:
        os.kill(pid, signal.SIGSTOP)
    try:
        answer = await client.call("ResourceService/ListResources", {}, person.token)
        assert answer.outcome in {("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE"), ("DEADLINE_EXCEEDED", "DEADLINE")}, answer
    finally:
        for pid in server:
            os.kill(pid, signal.SIGCONT)
    await mesh.kill("postgres")

    async def works() -> bool:
        answer = await client.call("ResourceService/ListResources", {}, person.token)
        assert answer.status in {"OK", "UNAVAILABLE"}, answer
        assert answer.status == "OK" or (answer.reason == "DEPENDENCY_UNAVAILABLE" and answer.retry_after)
        return answer.status == "OK"

    await eventually(works)


async def test_a_database_that_takes_no_changes_stops_changes_only_and_is_said_once(
    mesh: RunningMesh, person: Person
) -> None:
    services = [
        row["name"]
        for row in mesh.status["processes"]
        if f"{row['name']}-sidecar" in {other["name"] for other in mesh.status["processes"]}
    ]
    made = await mesh.clients["grpc"].ok(
        "ResourceService/CreateResource", {"resource": {"displayName": "before"}}, person.token
    )
    restarts = {row["name"]: row["restarts"] for row in mesh.status["processes"]}
    written = {name: len(lines(mesh, name)) for name in services}

    def said(name: str) -> list[str]:
        new = lines(mesh, name)[written[name] :]
        return [
            line["event"]
            for line in new
            if line["level"] in ("warning", "error", "critical") and line["event"] != "call"
        ]

    async def everywhere() -> bool:
        return all("database takes no changes" in said(name) for name in services)

    await set_read_only(mesh, "on")
    try:
        await eventually(everywhere)
        for client in mesh.clients.values():
            for name, request in (
                ("ResourceService/CreateResource", {"resource": {"displayName": "during"}}),
                ("ResourceService/UpdateResource", {"resource": {"name": made["name"], "displayName": "during"}}),
                ("UserService/UpdateUser", {"user": {"name": "users/me", "displayName": "during"}}),
                ("TokenService/RefreshToken", person.refresh),
                ("AuthService/SignIn", {"email": person.email, "password": person.password, "clientId": "demo"}),
            ):
                answer = await client.call(name, request, person.token)
                assert (*answer.outcome, answer.retry_after) == ("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE", True), (
                    name,
                    answer,
                )
            listed = await client.ok("ResourceService/ListResources", {}, person.token)
            assert [item["displayName"] for item in listed["resources"]] == ["before"]
            assert (await client.ok("UserService/GetUser", {"name": "users/me"}, person.token))["email"] == person.email
            assert (await client.ok("TokenService/ListSessions", {"parent": "users/me"}, person.token))["sessions"]
    finally:
        await set_read_only(mesh, "off")

    async def works() -> bool:
        answer = await mesh.clients["grpc"].call(
            "ResourceService/CreateResource", {"resource": {"displayName": "after"}}, person.token
        )
        return answer.status == "OK"

    await eventually(works)
    # A refresh that met the outage has spent nothing.
    await mesh.clients["grpc"].ok("TokenService/RefreshToken", person.refresh)
    assert {row["name"]: row["restarts"] for row in mesh.status["processes"]} == restarts
    for name in services:
        assert len(said(name)) == len(set(said(name))), f"{name} repeats itself: {said(name)}"
        assert not any("Traceback" in str(line) for line in lines(mesh, name)[written[name] :])


def lines(mesh: RunningMesh, name: str) -> list[dict[str, Any]]:
    """What a service has logged."""
    return [
        json.loads(line)
        for line in (mesh.home / "logs" / f"{name}.log").read_text().splitlines()
        if line.startswith("{")
    ]


async def set_read_only(mesh: RunningMesh, value: str) -> None:
    """Makes PostgreSQL refuse changes, as a server does that a failover made a replica, or take them again."""
    admin = await asyncpg.connect(admin_url(mesh), server_settings={"default_transaction_read_only": "off"})
    await admin.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    await admin.execute("SELECT pg_reload_conf()")
    await admin.close()


async def test_a_revocation_during_an_outage_of_valkey_is_refused_when_it_is_back(
    mesh: RunningMesh, client: Client
) -> None:
    person = await sign_up(mesh, client)
    pid = mesh.row("valkey")["pid"]
    os.kill(pid, signal.SIGKILL)
    await client.ok("TokenService/RevokeToken", {"token": person.tokens["refreshToken"]})

    async def refused() -> bool:
        answer = await client.call("UserService/GetUser", {"name": "users/me"}, person.token)
        return answer.outcome == ("UNAUTHENTICATED", "TOKEN_REVOKED")

    await eventually(refused)


async def test_without_valkey_sensitive_calls_are_refused_as_unavailable_and_good_tokens_stay_good(
    mesh: RunningMesh, person: Person, administrator: Person
) -> None:
    client = mesh.clients["grpc"]
    pid = mesh.row("valkey")["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:

        async def stale() -> bool:
            answer = await client.call(
                "UserService/DisableUser", {"name": "users/00000000-0000-7000-8000-000000000000"}, administrator.token
            )
            assert answer.status in {"NOT_FOUND", "UNAVAILABLE"}, answer
            return answer.outcome == ("UNAVAILABLE", "REVOCATION_STALE") and answer.retry_after

        await eventually(stale)
        await client.ok("ResourceService/ListResources", {}, person.token)
    finally:
        os.kill(pid, signal.SIGCONT)

    async def fresh() -> bool:
        answer = await client.call(
            "UserService/DisableUser", {"name": "users/00000000-0000-7000-8000-000000000000"}, administrator.token
        )
        return answer.outcome == ("NOT_FOUND", "USER_NOT_FOUND")

    await eventually(fresh)


async def test_a_profile_appears_when_user_is_back_from_the_dead(mesh: RunningMesh, client: Client) -> None:
    pid = mesh.row("user")["pid"]
    os.kill(pid, signal.SIGSTOP)
    person = await sign_up(mesh, client)
    os.kill(pid, signal.SIGKILL)

    async def profile() -> bool:
        await sign_in_again(client, person)
        answer = await client.call("UserService/GetUser", {"name": "users/me"}, person.token)
        return answer.status == "OK" and answer.body["email"] == person.email

    await eventually(profile, within=40)
