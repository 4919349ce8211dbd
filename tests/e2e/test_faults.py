"""What dies comes back, and while it is away nobody loses a token or is let in."""

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.conftest import Person, RunningMesh, eventually, sign_in_again, sign_up
from tests.e2e.protocols import Client


def children(parent: int) -> list[int]:
    """Processes that a process has started."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@pytest.mark.parametrize("name", ["resource", "resource-sidecar", "token", "token-sidecar", "edge"])
async def test_a_killed_process_comes_back_and_calls_succeed_again(mesh: RunningMesh, client: Client, person: Person, name: str) -> None:
    restarts = mesh.row(name)["restarts"]
    await mesh.kill(name)
    assert mesh.row(name)["restarts"] == restarts + 1

    async def works() -> bool:
        answer = await client.call("ResourceService/ListResources", {}, person.token)
        assert answer.status in {"OK", "UNAVAILABLE"}, answer
        return answer.status == "OK"

    await eventually(works)


async def test_without_its_database_a_service_is_unavailable_and_comes_back_by_itself(mesh: RunningMesh, client: Client, person: Person) -> None:
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


async def test_a_revocation_during_an_outage_of_valkey_is_refused_when_it_is_back(mesh: RunningMesh, client: Client) -> None:
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
            answer = await client.call("UserService/DisableUser", {"name": "users/00000000-0000-7000-8000-000000000000"}, administrator.token)
            assert answer.status in {"NOT_FOUND", "UNAVAILABLE"}, answer
            return answer.outcome == ("UNAVAILABLE", "REVOCATION_STALE") and answer.retry_after

        await eventually(stale)
        await client.ok("ResourceService/ListResources", {}, person.token)
    finally:
        os.kill(pid, signal.SIGCONT)

    async def fresh() -> bool:
        answer = await client.call("UserService/DisableUser", {"name": "users/00000000-0000-7000-8000-000000000000"}, administrator.token)
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
