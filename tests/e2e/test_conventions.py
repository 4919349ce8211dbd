"""The conventions, through the running mesh, for every RPC that takes a mask, a page or text: found by reflection."""

from dataclasses import replace
from typing import Any

import pytest

from mesh.contract import Contract, Rpc
from mesh.operator.implemented import implemented
from tests.e2e.conftest import Person, RunningMesh, sign_in_again

CONTRACT = Contract.load()
RPCS = [rpc for rpc in implemented(CONTRACT) if rpc.http and not rpc.server_streaming]
NOBODY = "0190a1b2-c3d4-7000-8000-00000000dead"
NAMES = {
    "users": "users/me", "resources": f"resources/{NOBODY}", "clients": "clients/no-such-client",
    "sessions": "users/me/sessions/current",
}  # fmt: skip


SCOPES = sorted(
    {scope for rpc in RPCS for scope in (*rpc.access.authenticated.scopes, *rpc.access.authenticated.others.scopes)}
)


@pytest.fixture(scope="module")
async def token(mesh: RunningMesh, administrator: Person) -> str:
    """Of an administrator, with every scope that these methods ask for."""
    person = replace(administrator)
    await sign_in_again(mesh.clients["grpc"], person, scopes=SCOPES)
    return person.token


def having(field: str) -> list[Any]:
    return [
        pytest.param(rpc, id=rpc.name)
        for rpc in RPCS
        if field in CONTRACT.message_type(rpc.input_type).DESCRIPTOR.fields_by_name
    ]


def sample(rpc: Rpc) -> dict[str, Any]:
    """A request that names things which nobody has: what is wrong with it is looked at before."""
    request: dict[str, Any] = {}
    fields = CONTRACT.message_type(rpc.input_type).DESCRIPTOR.fields_by_name
    kind = rpc.http[0].template.split("/v1/")[1].split("/")[0].strip("{}").partition("=")[2].split("/")[0]
    kind = kind or rpc.http[0].template.split("/v1/")[1].split("/")[0].split(":")[0]
    for name in ("name", "parent"):
        if name in fields:
            request[name] = NAMES.get(kind, "users/me")
    return request


@pytest.mark.parametrize("rpc", having("page_token"))
async def test_a_token_that_is_not_of_the_list_is_refused(mesh: RunningMesh, token: str, rpc: Rpc) -> None:
    request = sample(rpc) | {"pageToken": "nonsense"}
    answer = await mesh.clients["grpc"].call(f"{rpc.service.rpartition('.')[2]}/{rpc.name}", request, token)
    assert answer.outcome in (("INVALID_ARGUMENT", "FIELD_INVALID"), ("NOT_FOUND", "RESOURCE_NOT_FOUND")), answer


@pytest.mark.parametrize("rpc", having("update_mask"))
async def test_a_mask_with_an_unknown_path_is_refused(mesh: RunningMesh, token: str, rpc: Rpc) -> None:
    resource = next(
        field.name for field in CONTRACT.message_type(rpc.input_type).DESCRIPTOR.fields if field.name != "update_mask"
    )
    kind = rpc.name.removeprefix("Update").lower() + "s"
    request = {resource: {"name": NAMES[kind]}, "updateMask": "displayName,nonsense"}
    answer = await mesh.clients["grpc"].call(f"{rpc.service.rpartition('.')[2]}/{rpc.name}", request, token)
    assert answer.outcome == ("INVALID_ARGUMENT", "FIELD_INVALID"), answer
