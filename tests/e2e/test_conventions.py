"""The conventions of docs/contract.md, through the running mesh and its real handlers, for every RPC that they apply
to. The RPCs are found by reflection, and so is the resource that each is tried with: a new one is under them at
once.
"""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from buf.validate import validate_pb2

from mesh.contract import Contract, Rpc
from mesh.operator.implemented import implemented
from mesh.resources import field_mask
from tests.e2e.conftest import Person, RunningMesh, sign_in_again, sign_up

CONTRACT = Contract.load()
RPCS = [rpc for rpc in implemented(CONTRACT) if rpc.http and not rpc.server_streaming]
SCOPES = sorted(
    {scope for rpc in RPCS for scope in (*rpc.access.authenticated.scopes, *rpc.access.authenticated.others.scopes)}
)


@pytest.fixture(scope="module")
async def token(mesh: RunningMesh, administrator: Person) -> str:
    """Of an administrator, with every scope that these methods ask for."""
    person = replace(administrator)
    await sign_in_again(mesh.clients["grpc"], person, scopes=SCOPES)
    return person.token


def short(rpc: Rpc) -> str:
    return f"{rpc.service.rpartition('.')[2]}/{rpc.name}"


def having(field: str, verb: str = "") -> list[Any]:
    return [
        pytest.param(rpc, id=rpc.name)
        for rpc in RPCS
        if rpc.name.startswith(verb) and field in CONTRACT.message_type(rpc.input_type).DESCRIPTOR.fields_by_name
    ]


def called(name: str) -> Rpc | None:
    return next((rpc for rpc in RPCS if rpc.name == name), None)


async def made(mesh: RunningMesh, token: str, kind: str) -> dict[str, Any]:
    """A new resource of a kind (`Resource`), as its Get shows it."""
    client = mesh.clients["grpc"]
    get = called(f"Get{kind}")
    assert get, f"{kind} has no Get"
    create = called(f"Create{kind}")
    if create is None:
        assert kind == "User", f"{kind} has no Create: make one here"
        return dict(await client.ok(short(get), {"name": (await sign_up(mesh, client)).name}, token))
    field = CONTRACT.message_type(create.input_type).DESCRIPTOR.fields[0].json_name
    body: dict[str, Any] = {"displayName": "first"}
    if kind == "Client":
        # Named by those who make it.
        body |= {"name": f"clients/c{uuid.uuid4().hex[:10]}", "scopes": ["user:read"]}
    return dict(await client.ok(short(create), {field: body}, token))


def updated_by(rpc: Rpc) -> tuple[str, str]:
    """The kind that an Update changes, and the field of its request that holds it."""
    update = field_mask.update_of(CONTRACT.message_type(rpc.input_type).DESCRIPTOR)
    assert update
    return rpc.name.removeprefix("Update"), update.resource


def text_field(rpc: Rpc) -> tuple[str, str]:
    """A field of two words that an Update can change, by its name and in JSON."""
    request = CONTRACT.message_type(rpc.input_type).DESCRIPTOR
    resource = request.fields_by_name[updated_by(rpc)[1]].message_type
    update = field_mask.update_of(request)
    assert update
    assert resource
    return next(
        (field.name, field.json_name)
        for field in resource.fields
        if field.name in update.changeable and "_" in field.name and field.type == field.TYPE_STRING
    )


# Masks (AIP-134, AIP-161).


@pytest.mark.parametrize("rpc", having("update_mask"))
async def test_a_mask_changes_what_it_names_and_nothing_else(mesh: RunningMesh, token: str, rpc: Rpc) -> None:
    kind, field = updated_by(rpc)
    _, name = text_field(rpc)
    client = mesh.clients["grpc"]
    before = await made(mesh, token, kind)
    change = {"name": before["name"], name: "changed"}
    # In vain: what can't be changed; and what is not named.
    after = await client.ok(short(rpc), {field: change, "updateMask": "name,etag"}, token)
    assert after[name] == before[name]
    for mask in (name, "*", f"{name},etag,name"):
        change[name] = f"changed by {mask}"
        whole = dict(before) | change if mask == "*" else change
        whole.pop("etag", None)
        after = await client.ok(short(rpc), {field: whole, "updateMask": mask}, token)
        assert after[name] == change[name]
        kept = before.keys() - {name, "etag", "updateTime"}
        assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    # Empty: what is set.
    after = await client.ok(short(rpc), {field: {"name": before["name"], name: "changed by none"}}, token)
    assert after[name] == "changed by none"


@pytest.mark.parametrize("rpc", having("update_mask"))
async def test_a_mask_in_json_is_written_as_its_fields_are(mesh: RunningMesh, token: str, rpc: Rpc) -> None:
    kind, field = updated_by(rpc)
    _, name = text_field(rpc)
    before = await made(mesh, token, kind)
    request = {field: {"name": before["name"], name: "camel"}, "updateMask": name}
    assert (await mesh.clients["json"].ok(short(rpc), request, token))[name] == "camel"


@pytest.mark.parametrize("rpc", having("update_mask"))
async def test_a_mask_with_an_unknown_path_changes_nothing(mesh: RunningMesh, token: str, rpc: Rpc) -> None:
    kind, field = updated_by(rpc)
    _, name = text_field(rpc)
    before = await made(mesh, token, kind)
    for wrong in ("nonsense", f"{name}.x", f"{field}.{name}"):
        request = {field: {"name": before["name"], name: "changed"}, "updateMask": f"{name},{wrong}"}
        answer = await mesh.clients["grpc"].call(short(rpc), request, token)
        assert answer.outcome == ("INVALID_ARGUMENT", "FIELD_INVALID"), answer
        assert answer.fields == ("update_mask",)
    assert (await read(mesh, token, kind, before))[name] == before[name]


async def read(mesh: RunningMesh, token: str, kind: str, resource: Mapping[str, Any]) -> Mapping[str, Any]:
    get = called(f"Get{kind}")
    assert get
    return await mesh.clients["grpc"].ok(short(get), {"name": resource["name"]}, token)


# Etags (AIP-154).


@pytest.mark.parametrize("rpc", having("update_mask"))
async def test_an_update_of_a_state_that_is_gone_is_refused(mesh: RunningMesh, token: str, rpc: Rpc) -> None:
    kind, field = updated_by(rpc)
    _, name = text_field(rpc)
    client = mesh.clients["grpc"]
    before = await made(mesh, token, kind)
    change = {"name": before["name"], name: "changed", "etag": before["etag"]}
    after = await client.ok(short(rpc), {field: change, "updateMask": name}, token)
    assert after["etag"] != before["etag"]
    stale = change | {name: "changed again"}
    answer = await client.call(short(rpc), {field: stale, "updateMask": name}, token)
    assert answer.outcome == ("ABORTED", "ETAG_MISMATCH")
    assert await read(mesh, token, kind, before) == after


@pytest.mark.parametrize("rpc", having("etag", "Delete"))
async def test_a_deletion_of_a_state_that_is_gone_is_refused(mesh: RunningMesh, token: str, rpc: Rpc) -> None:
    kind = rpc.name.removeprefix("Delete")
    before = await made(mesh, token, kind)
    answer = await mesh.clients["grpc"].call(short(rpc), {"name": before["name"], "etag": "another"}, token)
    assert answer.outcome == ("ABORTED", "ETAG_MISMATCH")
    assert await read(mesh, token, kind, before) == before


# Pages (AIP-158).


def parent(rpc: Rpc) -> dict[str, Any]:
    """What a list is of, where it is of something."""
    return {"parent": "users/me"} if "parent" in CONTRACT.message_type(rpc.input_type).DESCRIPTOR.fields_by_name else {}


async def listed(mesh: RunningMesh, token: str, rpc: Rpc) -> dict[str, Any]:
    """A request for a list that is there."""
    request = parent(rpc)
    fields = CONTRACT.message_type(rpc.input_type).DESCRIPTOR.fields_by_name
    if "name" in fields:
        kind = next(found.name.removeprefix("Create") for found in RPCS if _collection(found) == _collection(rpc))
        request["name"] = (await made(mesh, token, kind))["name"]
    return request


def _collection(rpc: Rpc) -> str:
    """`resources`, of `/v1/resources` and of `/v1/{name=resources/*}/shares`, for Creates and what is below them."""
    path = rpc.http[0].template.removeprefix("/v1/")
    if rpc.name.startswith("Create"):
        return path
    return path.partition("=")[2].partition("/")[0] if path.startswith("{") else "-"


@pytest.mark.parametrize("rpc", having("page_token"))
async def test_a_token_that_is_not_of_the_list_is_refused(mesh: RunningMesh, token: str, rpc: Rpc) -> None:
    client = mesh.clients["grpc"]
    request = await listed(mesh, token, rpc)
    await client.ok(short(rpc), request, token)
    users = called("ListUsers")
    assert users
    foreign = (await client.ok(short(users), {"pageSize": 1}, token))["nextPageToken"]
    for wrong in ("nonsense", *([foreign] if rpc != users else [])):
        answer = await client.call(short(rpc), request | {"pageToken": wrong}, token)
        assert answer.outcome == ("INVALID_ARGUMENT", "FIELD_INVALID"), answer
        assert answer.fields == ("page_token",)


# Request ids (AIP-155).


@pytest.mark.parametrize("rpc", having("request_id", "Create"))
async def test_a_repeat_makes_nothing_and_another_body_is_refused(mesh: RunningMesh, token: str, rpc: Rpc) -> None:
    client = mesh.clients["grpc"]
    field = CONTRACT.message_type(rpc.input_type).DESCRIPTOR.fields[0].json_name
    request = {field: {"displayName": "first"}, "requestId": str(uuid.uuid4())}
    first = await client.ok(short(rpc), request, token)
    assert await client.ok(short(rpc), request, token) == first
    answer = await client.call(short(rpc), request | {field: {"displayName": "second"}}, token)
    assert answer.outcome == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    assert answer.fields == ("request_id",)


@pytest.mark.parametrize("rpc", [pytest.param(rpc, id=rpc.name) for rpc in RPCS if rpc.name.startswith("Create")])
def test_a_create_has_a_request_id_or_its_caller_names_what_it_makes(rpc: Rpc) -> None:
    request = CONTRACT.message_type(rpc.input_type).DESCRIPTOR
    resource = request.fields[0].message_type
    assert resource
    # A name that callers give has a form; one that the service gives has none.
    named_by_callers = resource.fields_by_name["name"].GetOptions().Extensions[validate_pb2.field].string.pattern
    assert named_by_callers or "request_id" in request.fields_by_name
