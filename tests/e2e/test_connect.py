"""The Connect protocol, judged by Connect's own client for the web: its default transport, which is JSON, and the
binary one."""

import asyncio
import json
import os
import shutil
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.contract import Contract
from tests.e2e.conftest import Person, RunningMesh, forged
from tests.kit.protocols import method

CLIENT = Path(__file__).parent / "connect"
Call = dict[str, Any]
Connect = Callable[..., Awaitable[list[Any]]]


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Connect's client, installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed: Connect's own client did not judge the edge")
    folder = tmp_path_factory.mktemp("connect")
    for file in CLIENT.iterdir():
        shutil.copy(file, folder)
    command = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    npm = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await npm.communicate()
    if npm.returncode != 0:
        pytest.skip(
            f"npm could not install Connect's own client, which did not judge the edge: "
            f"{output.decode().splitlines()[:1]}"
        )
    return folder / "client.mjs"


@pytest.fixture(params=["json", "binary"])
def connect(mesh: RunningMesh, client: Path, request: pytest.FixtureRequest) -> Connect:
    """Makes calls one after the other, and gives their answers."""

    async def ask(*calls: Call) -> list[Any]:
        sent = []
        for call in calls:
            rpc = method(call["name"])
            sent.append(
                {
                    "transport": request.param,
                    "service": rpc.service,
                    "method": rpc.name[0].lower() + rpc.name[1:],
                    "request": {},
                    **call,
                }
            )
        node = await asyncio.create_subprocess_exec(
            "node",
            client,
            Contract.load().descriptor_file,
            mesh.status["edge"],
            env=os.environ | {"NODE_EXTRA_CA_CERTS": mesh.status["ca_file"]},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await node.communicate(json.dumps(sent).encode())
        assert node.returncode == 0, errors.decode()
        answers: list[Any] = json.loads(output)
        return answers

    return ask


async def test_a_person_signs_up_in_and_out(mesh: RunningMesh, connect: Connect) -> None:
    email, password, device = (
        f"{uuid.uuid4()}@example.com",
        f"correct horse {uuid.uuid4()}",
        {"instanceId": str(uuid.uuid4())},
    )
    [signed_up] = await connect(
        {"name": "AuthService/SignUp", "request": {"email": email, "password": password, "displayName": "Ada Łovelace"}}
    )
    assert "ok" in signed_up, signed_up
    verify = {"name": "AuthService/VerifyEmail", "request": {"email": email, "code": await mesh.code(email)}}
    sign_in = {
        "name": "AuthService/SignIn",
        "request": {"email": email, "password": password, "clientId": "demo", "device": device},
    }
    verified, signed_in = await connect(verify, sign_in)
    assert "ok" in verified, verified
    tokens = signed_in["ok"]["tokens"]

    def refresh(token: str) -> Call:
        return {
            "name": "TokenService/RefreshToken",
            "request": {"refreshToken": token, "clientId": "demo", "device": device},
        }

    who = {"name": "UserService/GetUser", "request": {"name": "users/me"}, "token": tokens["accessToken"]}
    refreshed, user = await connect(refresh(tokens["refreshToken"]), who)
    assert user["ok"]["displayName"] == "Ada Łovelace"
    token = refreshed["ok"]["refreshToken"]
    revoked, again = await connect({"name": "TokenService/RevokeToken", "request": {"token": token}}, refresh(token))
    assert "ok" in revoked
    assert (again["code"], again["details"]["reason"]) == ("Unauthenticated", "REFRESH_INVALID")


async def test_refusals_have_their_reason_and_details_whoever_makes_them(connect: Connect, person: Person) -> None:
    wrong = {"email": person.email, "password": "wrong horse battery", "clientId": "demo"}
    no_token, forged_token, bad_field, wrong_password, missing = await connect(
        {"name": "TokenService/ListSessions", "request": {"parent": "users/me"}},
        {"name": "TokenService/ListSessions", "request": {"parent": "users/me"}, "token": forged(person.token)},
        {"name": "ResourceService/GetResource", "request": {"name": "resources/nope"}, "token": person.token},
        {"name": "AuthService/SignIn", "request": wrong},
        {
            "name": "ResourceService/GetResource",
            "request": {"name": f"resources/{uuid.uuid4()}"},
            "token": person.token,
        },
    )
    assert (no_token["code"], no_token["details"]["reason"]) == ("Unauthenticated", "TOKEN_MISSING")
    assert (forged_token["code"], forged_token["details"]["reason"]) == ("Unauthenticated", "TOKEN_INVALID")
    assert (bad_field["code"], bad_field["details"]["reason"]) == ("InvalidArgument", "FIELD_INVALID")
    assert bad_field["details"]["fieldViolations"][0]["field"] == "name"
    assert (wrong_password["code"], wrong_password["details"]["reason"]) == ("Unauthenticated", "CREDENTIALS_INVALID")
    assert (missing["code"], missing["details"]["reason"]) == ("NotFound", "RESOURCE_NOT_FOUND")
    assert all(answer["message"] for answer in (no_token, forged_token, bad_field, wrong_password, missing))


async def test_a_stream_is_followed_and_refused(connect: Connect, person: Person) -> None:
    create = {
        "name": "ResourceService/CreateResource",
        "request": {"resource": {"displayName": "watched"}},
        "token": person.token,
    }
    watch = {"name": "ResourceService/WatchResources", "messages": 1}
    created, first = await connect(create, {**watch, "token": person.token})
    assert created["ok"]["displayName"] == "watched"
    [heartbeat] = first["ok"]
    assert heartbeat["resumeToken"]
    without, malformed = await connect(watch, {**watch, "token": person.token, "request": {"resumeToken": "x"}})
    assert (without["code"], without["details"]["reason"]) == ("Unauthenticated", "TOKEN_MISSING")
    assert (malformed["code"], malformed["details"]["reason"]) == ("InvalidArgument", "FIELD_INVALID")
    assert malformed["details"]["fieldViolations"][0]["field"] == "resume_token"
