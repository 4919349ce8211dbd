"""A person asks for everything that is held of them, and the document is compared with the databases."""

import json
import secrets

from tests.e2e.conftest import Person, RunningMesh, eventually, sign_in_again, sign_up


async def test_everything_that_is_held_is_in_the_document(
    mesh: RunningMesh, person: Person, administrator: Person
) -> None:
    client = mesh.clients["json"]
    device, content = f"phone-{secrets.token_hex(8)}", f"diary-{secrets.token_hex(8)}"
    await sign_in_again(client, person, device={"instanceId": person.instance_id, "displayName": device})
    me = {"name": "users/me", "displayName": f"Ada {secrets.token_hex(8)}"}
    await client.ok("UserService/UpdateUser", {"user": me, "updateMask": "displayName"}, person.token)
    mine = await client.ok("ResourceService/CreateResource", {"resource": {"content": content}}, person.token)
    other = await sign_up(mesh, client)
    theirs = await client.ok("ResourceService/CreateResource", {"resource": {"content": "plan"}}, other.token)
    share = {"name": theirs["name"], "email": person.email, "role": "ROLE_READER"}
    await client.ok("ResourceService/ShareResource", share, other.token)

    # In gRPC, by the command.
    status, output, errors = await mesh.authmesh("call", "UserService/ExportMyData", "{}", "--token", person.token)
    assert (status, errors) == (0, "")
    assert json.loads(output)["profile"]["name"] == person.name

    async def is_told() -> bool:
        query = {"subject": person.name, "type": "user.data_exported"}
        answer = await client.ok("AuditService/QueryEvents", query, administrator.token)
        return bool(answer.get("events"))

    await eventually(is_told)
    # In JSON.
    document = await client.ok("UserService/ExportMyData", {}, person.token)
    assert document["complete"] is True
    assert document["profile"]["displayName"] == me["displayName"]
    assert [account["email"] for account in document["accounts"]] == [person.email]
    assert device in [session["device"].get("displayName") for session in document["sessions"]]
    assert [(resource["name"], resource["content"]) for resource in document["resources"]] == [(mine["name"], content)]
    assert [held["resource"] for held in document["sharesHeld"]] == [theirs["name"]]
    types = {event["type"] for event in document["auditEvents"]}
    assert {"auth.signed_in", "token.issued", "user.data_exported"} <= types
    assert other.email not in json.dumps(document)
    kinds = [message["kind"] for message in await mesh.inbox(person.email)]
    assert "data_exported" in kinds
