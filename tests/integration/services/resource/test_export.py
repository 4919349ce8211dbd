"""What Resource hands out of a person."""

import json
from collections import defaultdict
from typing import Any

import pytest
from authmesh.export.v1.export_pb2 import ExportSubjectRequest
from authmesh.resource.v1 import resource_service_pb2
from authmesh.resource.v1.resource_directory_pb2_grpc import ResourceDirectoryStub

from services.resource import export
from tests.integration.services.resource.conftest import Person, Replica

READER, EDITOR = resource_service_pb2.ROLE_READER, resource_service_pb2.ROLE_EDITOR


async def exported(replica: Replica, person: Person, email: str) -> dict[str, list[Any]]:
    request = ExportSubjectRequest(subject=person.subject, email=email)
    found: dict[str, list[Any]] = defaultdict(list)
    stub: Any = ResourceDirectoryStub(replica.channel)
    async for item in stub.ExportSubject(request):
        found[item.collection].append(json.loads(item.json))
    return found


async def test_what_a_person_owns_gave_and_holds(running: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_PAGE", 2)
    ada, bob = running.person(), running.person()
    mine = [(await ada.create(f"mine {number}")).name for number in range(5)]
    theirs = [(await bob.create("secret")).name for _ in range(4)]
    for name in theirs[:3]:
        await bob.call("ShareResource", name=name, user=ada.name, role=READER)
    await bob.call("ShareResource", name=theirs[3], email="Ada@Example.com", role=EDITOR)
    await ada.call("ShareResource", name=mine[0], email="eve@example.com", role=EDITOR)
    await ada.call("ShareResource", name=mine[0], user=bob.name, role=READER)
    found = await exported(running, ada, "ada@example.com")
    assert sorted(resource["name"] for resource in found["resources"]) == sorted(mine)
    assert all(resource["content"] for resource in found["resources"])
    assert {share["resource"] for share in found["sharesGiven"]} == {mine[0]}
    assert {share.get("email", share.get("user")) for share in found["sharesGiven"]} == {"eve@example.com", bob.name}
    assert sorted(share["resource"] for share in found["sharesHeld"]) == sorted(theirs)
    # What belongs to someone else is theirs to export.
    assert "secret" not in json.dumps(found)


async def test_there_may_be_nothing(running: Replica) -> None:
    assert await exported(running, running.person(), "nobody@example.com") == {}
