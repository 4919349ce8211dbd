"""Passkeys through the edge, in every protocol, with an authenticator in software."""

import uuid

import pytest

from tests.e2e.conftest import Person, RunningMesh, sign_up
from tests.kit.authenticator import SoftwareAuthenticator
from tests.kit.protocols import Client


@pytest.fixture
async def person(mesh: RunningMesh) -> Person:
    return await sign_up(mesh, mesh.clients["grpc"])


async def test_a_passkey_is_registered_used_renamed_and_deleted(
    mesh: RunningMesh, client: Client, person: Person
) -> None:
    authenticator = SoftwareAuthenticator(mesh.status["edge"])
    begun = await client.ok("PasskeyService/BeginRegistration", {}, person.token)
    made = authenticator.create(begun["creationOptionsJson"])
    finish = {"ceremony": begun["ceremony"], "credentialJson": made, "displayName": "laptop"}
    passkey = await client.ok("PasskeyService/FinishRegistration", finish, person.token)
    replay = await client.call("PasskeyService/FinishRegistration", finish, person.token)
    assert (replay.outcome, replay.fields) == (("INVALID_ARGUMENT", "CODE_INVALID"), ("ceremony",))

    device = {"instanceId": str(uuid.uuid4())}
    begun = await client.ok("PasskeyService/BeginSignIn", {"clientId": "demo", "device": device})
    authenticator.count += 1
    presented = authenticator.get(begun["requestOptionsJson"])
    answer = {"ceremony": begun["ceremony"], "credentialJson": presented}
    person.tokens = await client.ok("PasskeyService/FinishSignIn", answer)
    assert (person.claims["amr"], person.name) == (["hwk", "user"], passkey["name"].rpartition("/passkeys")[0])
    assert (await client.call("PasskeyService/FinishSignIn", answer)).reason == "CODE_INVALID"

    renamed = {"name": passkey["name"], "displayName": "desk"}
    assert (await client.ok("PasskeyService/RenamePasskey", renamed, person.token))["displayName"] == "desk"
    (listed,) = (await client.ok("PasskeyService/ListPasskeys", {"parent": "users/me"}, person.token))["passkeys"]
    assert (listed["name"], listed["displayName"], "lastUsedTime" in listed) == (passkey["name"], "desk", True)
    await client.ok("PasskeyService/DeletePasskey", {"name": passkey["name"]}, person.token)
    begun = await client.ok("PasskeyService/BeginSignIn", {"clientId": "demo"})
    gone = {"ceremony": begun["ceremony"], "credentialJson": authenticator.get(begun["requestOptionsJson"])}
    refused = await client.call("PasskeyService/FinishSignIn", gone)
    assert refused.outcome == ("UNAUTHENTICATED", "CREDENTIALS_INVALID")


async def test_what_is_too_large_or_cut_short_is_refused(mesh: RunningMesh, client: Client) -> None:
    begun = await client.ok("PasskeyService/BeginSignIn", {"clientId": "demo"})
    for text in ("{", "x" * 16_385):
        answer = {"ceremony": begun["ceremony"], "credentialJson": text}
        assert (await client.call("PasskeyService/FinishSignIn", answer)).reason == "FIELD_INVALID"
    # Within the window of a stream: clients that send all of it before they read see the refusal, too.
    answer = {"ceremony": begun["ceremony"], "credentialJson": "x" * 60_000}
    assert (await client.call("PasskeyService/FinishSignIn", answer)).reason == "MESSAGE_TOO_LARGE"


async def test_the_passkey_of_one_is_not_that_of_another(mesh: RunningMesh, person: Person) -> None:
    client = mesh.clients["grpc"]
    authenticator = SoftwareAuthenticator(mesh.status["edge"])
    begun = await client.ok("PasskeyService/BeginRegistration", {}, person.token)
    finish = {"ceremony": begun["ceremony"], "credentialJson": authenticator.create(begun["creationOptionsJson"])}
    stranger = await sign_up(mesh, client)
    stolen = await client.call("PasskeyService/FinishRegistration", finish, stranger.token)
    assert (stolen.reason, stolen.fields) == ("CODE_INVALID", ("ceremony",))
    passkey = await client.ok("PasskeyService/FinishRegistration", finish, person.token)
    for method, request in (
        ("RenamePasskey", {"name": passkey["name"], "displayName": "mine"}),
        ("DeletePasskey", {"name": passkey["name"]}),
        ("ListPasskeys", {"parent": person.name}),
    ):
        assert (await client.call(f"PasskeyService/{method}", request, stranger.token)).reason == "SCOPE_MISSING"
