"""The audit trail, read by an administrator through the edge, and proven on the machine."""

import json

from tests.e2e.conftest import Person, RunningMesh, eventually
from tests.kit.protocols import Client, GrpcClient


async def test_an_administrator_reads_what_somebody_did(client: Client, person: Person, administrator: Person) -> None:
    made = await client.ok("ResourceService/CreateResource", {"resource": {"displayName": "plan"}}, person.token)

    async def recorded() -> bool:
        page = await client.ok(
            "AuditService/QueryEvents", {"actor": person.name, "type": "resource.created"}, administrator.token
        )
        told = [event["target"] for event in page.get("events", [])], page.get("standings", [])
        return told == ([made["name"]], ["STANDING_CHAINED"])

    await eventually(recorded)
    answer = await client.call("AuditService/QueryEvents", {}, person.token)
    assert answer.outcome == ("PERMISSION_DENIED", "SCOPE_MISSING")


async def test_a_watch_tells_what_happens_now(mesh: RunningMesh, person: Person, administrator: Person) -> None:
    client = mesh.clients["grpc"]
    assert isinstance(client, GrpcClient)
    async with client.stream("AuditService/WatchEvents", {"type": "resource.created"}, administrator.token) as messages:
        assert "event" not in await anext(messages)
        made = await client.ok("ResourceService/CreateResource", {"resource": {"displayName": "plan"}}, person.token)
        while (message := await anext(messages)).get("event", {}).get("target") != made["name"]:
            pass
        assert (message["event"]["actor"], message["standing"]) == (person.name, "STANDING_CHAINED")


async def test_the_trail_is_proven_by_the_command_line(mesh: RunningMesh, person: Person) -> None:
    async def signed_for() -> bool:
        status, output, errors = await mesh.authmesh("audit", "verify", "--json")
        assert status == 0, output + errors
        report = json.loads(output)
        assert report["intact"]
        return bool(report["checkpoints"] >= 1 and report["events"]["auth"] >= 1)

    await eventually(signed_for)


async def test_the_operator_of_the_machine_could_acknowledge_what_is_found(mesh: RunningMesh) -> None:
    # Nothing is: the command verifies with the pinned keys, asks KMS for the one that signs, and leaves no trace.
    status, output, errors = await mesh.authmesh("audit", "acknowledge", "0123456789ab", "--reason", "none")
    assert (status, output) == (2, ""), errors
    assert "0123456789ab names nothing that was found just now" in errors
