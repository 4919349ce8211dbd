"""KeyService of the running process, its JWKS, and `authmesh keys` beside it."""

import asyncio
import json
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from authmesh.token.v1 import key_service_pb2, key_service_pb2_grpc, token_service_pb2
from typer.testing import CliRunner

from mesh.local.components.aws_emulator import AwsEmulator
from mesh.storage.database import Database
from services.token.keys.commands import commands
from tests.conftest import held
from tests.kit.token_calls import Process, by, environment, eventually, reason, running


@pytest.fixture
async def token(new_database_url: Callable[[str], Awaitable[str]], valkey_server: Any) -> AsyncIterator[Process]:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="token-")))
        variables = environment(directory, await new_database_url("services.token"), valkey_server.url)
        shortened = {
            "JWKS_CACHE_SECONDS": "1",
            "JWKS_MAX_CACHE_SECONDS": "1",
            "SIGNING_LEAD_SECONDS": "6",
            "SIGNING_ROTATION_SECONDS": "3600",
        }
        yield await stack.enter_async_context(held(running(variables | shortened)))


class Administrator:
    """Calls KeyService."""

    def __init__(self, process: Process, access_token: str) -> None:
        self._keys = key_service_pb2_grpc.KeyServiceStub(process.channel)
        self._metadata = by("edge", access_token)

    async def keys(self) -> dict[str, list[str]]:
        """Names by state."""
        answer = await self._keys.ListKeys(key_service_pb2.ListKeysRequest(), metadata=self._metadata)
        found: dict[str, list[str]] = {}
        for key in answer.keys:
            found.setdefault(key_service_pb2.Key.State.Name(key.state).removeprefix("STATE_"), []).append(key.name)
        return found

    async def rotate(self) -> key_service_pb2.Key:
        return await self._keys.RotateKey(key_service_pb2.RotateKeyRequest(), metadata=self._metadata)

    async def revoke(self, name: str) -> key_service_pb2.Key:
        return await self._keys.RevokeKey(key_service_pb2.RevokeKeyRequest(name=name), metadata=self._metadata)


async def administrator(token: Process) -> Administrator:
    return Administrator(token, (await token.admin(uuid.uuid4())).access_token)


async def published(token: Process) -> set[str]:
    answer = await token.tokens.GetJwks(token_service_pb2.GetJwksRequest(), metadata=by("edge"))
    return {f"keys/{key['kid']}" for key in json.loads(answer.data)["keys"]}


async def test_keys_are_listed_rotated_and_revoked(token: Process) -> None:
    admin = await administrator(token)
    keys = await admin.keys()
    ((active,), (waiting,)) = keys["ACTIVE"], keys["PUBLISHED"]
    assert await published(token) == {active, waiting}
    rotated = await admin.rotate()
    assert rotated.name == waiting
    assert rotated.active_time.ToDatetime() >= rotated.create_time.ToDatetime()

    async def signing() -> str:
        return (await admin.keys())["ACTIVE"][0]

    async with asyncio.timeout(15):
        while await signing() != waiting:
            await asyncio.sleep(0.1)
    assert (await admin.keys())["RETIRING"] == [active]
    # And the one after it is made.
    async with asyncio.timeout(15):
        while len(await published(token)) != 3:
            await asyncio.sleep(0.1)
    # A token of the key that signs now.
    person = await token.sign_in(uuid.uuid4())
    assert await reason(admin.revoke("keys/nonsense")) == "NOT_FOUND KEY_NOT_FOUND"
    revoked = await admin.revoke(waiting)
    assert revoked.state == key_service_pb2.Key.STATE_REVOKED
    assert waiting not in await published(token)

    async def ask() -> str:
        request = token_service_pb2.ListSessionsRequest(parent="users/me")
        return (await reason(token.tokens.ListSessions(request, metadata=by("edge", person.access_token)))).partition(
            " "
        )[0]

    assert await eventually(ask, "UNAUTHENTICATED") < 1
    assert await reason(token.sign_in(uuid.uuid4())) == "OK"
    # The administrator's own token is of the first key, and still good.
    assert waiting in (await admin.keys())["REVOKED"]


async def test_only_administrators_of_keys_change_them(token: Process) -> None:
    person = Administrator(token, (await token.sign_in(uuid.uuid4())).access_token)
    for call in (person.keys(), person.rotate(), person.revoke("keys/x")):
        assert await reason(call) == "PERMISSION_DENIED SCOPE_MISSING"


async def test_the_jwks_says_how_long_it_may_be_kept(token: Process) -> None:
    call = token.tokens.GetJwks(token_service_pb2.GetJwksRequest(), metadata=by("edge"))
    headers = dict(await call.initial_metadata() or ())
    assert headers["cache-control"] == "public, max-age=60"
    await call


async def run(variables: dict[str, str], *arguments: str) -> tuple[int, str]:
    result = await asyncio.to_thread(CliRunner().invoke, commands, arguments, env=variables)
    return result.exit_code, result.output


async def test_whoever_has_the_machine_lists_rotates_and_revokes(token: Process) -> None:
    admin, variables = await administrator(token), {"NODE": "token", "DATABASE_URL": token.database_url}
    status, output = await run(variables, "list")
    assert (status, [line.split()[3] for line in output.splitlines()]) == (0, ["published", "active"])
    waiting, active = (line.split()[0] for line in output.splitlines())
    status, output = await run(variables, "rotate")
    assert (status, output.split()[0]) == (0, waiting)
    status, output = await run(variables, "revoke", active)
    assert (status, "is revoked" in output) == (0, True)

    # The process sees it within a second or so: it refuses the administrator, whose token that key has signed. By the
    # feed, or because the key has left the JWKS, whichever comes first.
    async def ask() -> str:
        return (await reason(admin.keys())).partition(" ")[0]

    assert await eventually(ask, "UNAUTHENTICATED") < 2
    assert await reason(token.sign_in(uuid.uuid4())) == "OK"
    assert await run(variables, "revoke", "nonsense") == (
        1,
        "authmesh: no such key: it never was, or every token that it signed has expired\n",
    )
    async with Database.open(token.database_url) as database:
        rows = await database.fetch("SELECT payload FROM outbox WHERE destination = 'token.key_revoked'")
    assert len(rows) == 1
    assert b"operator" in rows[0]["payload"]


async def test_without_a_mesh_it_says_so() -> None:
    with tempfile.TemporaryDirectory() as home:
        status, output = await run(
            {"AUTHMESH_HOME": home, "NODE": "", "DATABASE_URL": os.environ.get("DATABASE_URL", "")}, "list"
        )
    assert status == 1
    assert output.startswith("authmesh: ")
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize("custody", ["kms", "kms-rooted"])
async def test_a_refresh_survives_an_outage_of_kms_that_is_longer_than_its_grace(
    new_database_url: Callable[[str], Awaitable[str]],
    valkey_server: Any,
    aws_server: AwsEmulator,
    kms: Any,
    root_key: str,
    custody: str,
) -> None:
    with tempfile.TemporaryDirectory(prefix="token-") as name:
        directory = Path(name)
        variables = (
            environment(directory, await new_database_url("services.token"), valkey_server.url) | aws_server.environment
        )
        del variables["SIGNING_KEY_FILE"]
        clients = (
            "clients: "
            "{demo: {display_name: Demo, confidential: false, refresh_grace_seconds: 2, scopes: ['session:manage']}}"
        )
        (directory / "clients.yaml").write_text(clients)
        chosen = {
            "SIGNING_KEYS": custody,
            "SIGNING_KMS_KEY_ID": root_key,
            "CLIENTS_FILE": str(directory / "clients.yaml"),
        }
        async with running(variables | chosen) as token:
            tokens = await token.sign_in(uuid.uuid4())
            async with Database.open(token.database_url) as database:
                row = await database.fetchrow(
                    "SELECT material, custody FROM signing_keys WHERE active_time IS NOT NULL"
                )
            assert row
            assert row["custody"] == custody
            request = token_service_pb2.RefreshTokenRequest(refresh_token=tokens.refresh_token, client_id="demo")
            if custody == "kms":
                arn = row["material"].decode()
                await kms.disable_key(KeyId=arn)
                for _ in range(5):
                    assert (
                        await reason(token.tokens.RefreshToken(request, metadata=by("edge")))
                        == "UNAVAILABLE KEYS_UNAVAILABLE"
                    )
                    await asyncio.sleep(0.6)
                await kms.enable_key(KeyId=arn)
            else:
                # Asked once: what signs is here.
                await kms.disable_key(KeyId=root_key)
            refreshed = await token.tokens.RefreshToken(request, metadata=by("edge"))
            listing = token_service_pb2.ListSessionsRequest(parent="users/me")
            assert await reason(token.tokens.ListSessions(listing, metadata=by("edge", refreshed.access_token))) == "OK"
            assert refreshed.refresh_token != tokens.refresh_token
