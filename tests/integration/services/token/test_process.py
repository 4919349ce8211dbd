"""The Token process as it is started, with a test in the place of its sidecar."""

import asyncio
import json
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from authmesh.audit.v1 import audit_event_pb2
from authmesh.token.v1 import (
    client_service_pb2,
    client_service_pb2_grpc,
    key_service_pb2,
    key_service_pb2_grpc,
    token_issuer_pb2,
    token_service_pb2,
    token_set_pb2,
)
from grpc import aio
from redis.asyncio import Redis

from mesh.rpc.channel import open_channel
from mesh.storage.database import Database
from mesh.tokens.feed import STREAM
from mesh.tokens.issuer import fetch_jwks, fetch_snapshot
from mesh.tokens.keys import parse_jwks
from tests.conftest import held
from tests.kit.role_scopes import ROLES
from tests.kit.snapshots import whole
from tests.kit.token_calls import ALICE, Process, by, environment, eventually, reason, refresh, running, start

BOB = uuid.UUID(int=0xB0B)


@pytest.fixture(scope="module")
async def token(new_database_url: Callable[[str], Awaitable[str]], valkey_server: Any) -> AsyncIterator[Process]:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="token-")))
        variables = environment(directory, await new_database_url("services.token"), valkey_server.url)
        yield await stack.enter_async_context(held(running(variables)))


async def test_tokens_go_from_sign_in_through_refresh_to_sign_out(token: Process) -> None:
    first = await token.sign_in(device=token_set_pb2.Device(instance_id=str(uuid.uuid4()), display_name="Phone"))
    assert first.token_type == "Bearer"
    assert list(first.scopes) == sorted(ROLES.allowed([]))
    assert (
        await reason(token.tokens.RefreshToken(refresh(first), metadata=by("edge")))
        == "UNAUTHENTICATED REFRESH_INVALID"
    )
    sessions = await token.tokens.ListSessions(
        token_service_pb2.ListSessionsRequest(parent="users/me"), metadata=by("edge", first.access_token)
    )
    (session,) = (one for one in sessions.sessions if one.current)
    assert session.name == first.session
    second = await token.tokens.RefreshToken(refresh(first, device=session.device), metadata=by("edge"))
    assert (second.session, list(second.scopes)) == (first.session, list(first.scopes))
    listed = await token.tokens.ListSessions(
        token_service_pb2.ListSessionsRequest(parent="users/me"), metadata=by("edge", second.access_token)
    )
    assert [one.address for one in listed.sessions if one.current] == ["198.51.100.9"]
    await token.tokens.RevokeToken(
        token_service_pb2.RevokeTokenRequest(token=second.refresh_token), metadata=by("edge")
    )

    async def ask() -> str:
        return await reason(
            token.tokens.ListSessions(
                token_service_pb2.ListSessionsRequest(parent="users/me"), metadata=by("edge", second.access_token)
            )
        )

    assert await eventually(ask, "UNAUTHENTICATED TOKEN_REVOKED") < 1


async def test_whatever_revokes_answers_once_redis_has_it(token: Process, valkey_server: Any) -> None:
    tokens, issuer, admin = token.tokens, token.issuer, await token.admin(uuid.uuid4())
    clients: Any = client_service_pb2_grpc.ClientServiceStub(token.channel)
    keys: Any = key_service_pb2_grpc.KeyServiceStub(token.channel)

    async def revoke_refresh_token() -> None:
        await tokens.RevokeToken(
            token_service_pb2.RevokeTokenRequest(token=(await token.sign_in()).refresh_token), metadata=by("edge")
        )

    async def revoke_access_token() -> None:
        await tokens.RevokeToken(
            token_service_pb2.RevokeTokenRequest(token=(await token.sign_in()).access_token), metadata=by("edge")
        )

    async def end_session() -> None:
        own = by("edge", (await token.sign_in()).access_token)
        await tokens.RevokeSession(
            token_service_pb2.RevokeSessionRequest(name="users/me/sessions/current"), metadata=own
        )

    async def end_all_sessions() -> None:
        own = by("edge", (await token.sign_in()).access_token)
        await tokens.RevokeAllSessions(token_service_pb2.RevokeAllSessionsRequest(parent="users/me"), metadata=own)

    async def use_again() -> None:
        first = await token.sign_in()
        second = await tokens.RefreshToken(refresh(first), metadata=by("edge"))
        await tokens.RefreshToken(refresh(second), metadata=by("edge"))
        assert (
            await reason(tokens.RefreshToken(refresh(first), metadata=by("edge"))) == "UNAUTHENTICATED REFRESH_REUSED"
        )

    async def disable() -> None:
        await issuer.SetSubjectGrants(
            token_issuer_pb2.SetSubjectGrantsRequest(subject=str(uuid.uuid4()), disabled=True, version=1),
            metadata=by("user"),
        )

    async def revoke_subject() -> None:
        request = token_issuer_pb2.RevokeSubjectRequest(subject=str(uuid.uuid4()), request_id=str(uuid.uuid4()))
        await issuer.RevokeSubject(request, metadata=by("user"))

    async def delete_client() -> None:
        client, own = (
            client_service_pb2.Client(name="clients/short-lived", display_name="x"),
            by("edge", admin.access_token),
        )
        await clients.CreateClient(client_service_pb2.CreateClientRequest(client=client), metadata=own)
        await clients.DeleteClient(client_service_pb2.DeleteClientRequest(name=client.name), metadata=own)

    async def next_keys() -> list[str]:
        listed = await keys.ListKeys(key_service_pb2.ListKeysRequest(), metadata=by("edge", admin.access_token))
        return [key.name for key in listed.keys if key.state == key.STATE_PUBLISHED]

    async def revoke_key() -> None:
        (waiting,) = await next_keys()
        await keys.RevokeKey(key_service_pb2.RevokeKeyRequest(name=waiting), metadata=by("edge", admin.access_token))

    ways: list[Callable[[], Awaitable[None]]] = [
        revoke_refresh_token,
        revoke_access_token,
        end_session,
        end_all_sessions,
        use_again,
        disable,
        revoke_subject,
        delete_client,
    ] * 3
    async with Redis.from_url(valkey_server.url) as redis, Database.open(token.database_url) as database:
        for revoke in (*ways, revoke_key):
            before = await database.fetchval("SELECT sequence FROM revocation_log")
            await revoke()
            newest: Any = await redis.xrevrange(STREAM, count=1)
            after = await database.fetchval("SELECT sequence FROM revocation_log")
            assert int(newest[0][0].split(b"-")[0]) == after > before, revoke
    async with asyncio.timeout(10):
        while not await next_keys():
            await asyncio.sleep(0.05)


class AsNode:
    """A channel whose calls carry a node's certificate, which its sidecar would add."""

    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        def method(*args: Any, **options: Any) -> Any:
            call = getattr(self._channel, name)(*args, **options)
            return lambda request, **more: call(request, metadata=by("resource"), **more)

        return method


async def test_what_other_nodes_fetch_is_there(token: Process) -> None:
    issued = await token.sign_in()
    request = token_service_pb2.RevokeSessionRequest(name="users/me/sessions/current")
    await token.tokens.RevokeSession(request, metadata=by("edge", issued.access_token))
    async with open_channel(token.socket) as channel:
        # The one that signs, and the one that will.
        assert len(parse_jwks(await fetch_jwks(channel))) == 2
        snapshot = await whole(fetch_snapshot(AsNode(channel)))  # type: ignore[arg-type]
    assert issued.session.endswith(snapshot.revocations[-1].value)
    assert len(snapshot.revocations) == snapshot.sequence


async def test_the_metadata_names_what_works(token: Process) -> None:
    answer = await token.tokens.GetDiscovery(token_service_pb2.GetDiscoveryRequest(), metadata=by("edge"))
    document = json.loads(answer.data)
    assert (document["issuer"], document["jwks_uri"]) == (
        "https://issuer.test",
        "https://issuer.test/.well-known/jwks.json",
    )
    assert not [member for member in document if member.endswith("_endpoint")]


async def test_a_sign_in_is_checked_for_auth_alone(token: Process) -> None:
    assert (
        await reason(
            token.issuer.CheckSignIn(token_issuer_pb2.CheckSignInRequest(client_id="demo"), metadata=by("auth"))
        )
        == "OK"
    )
    unknown = token_issuer_pb2.CheckSignInRequest(client_id="nobody")
    assert (
        await reason(token.issuer.CheckSignIn(unknown, metadata=by("auth")))
        == "INVALID_ARGUMENT FIELD_INVALID client_id"
    )
    assert (
        await reason(token.issuer.CheckSignIn(unknown, metadata=by("user"))) == "PERMISSION_DENIED CALLER_NOT_ALLOWED"
    )


async def test_introspection_is_for_those_who_may(token: Process) -> None:
    person, admin = await token.sign_in(BOB), await token.admin(uuid.uuid4())
    request = token_service_pb2.IntrospectTokenRequest(token=person.access_token)
    assert (
        await reason(token.tokens.IntrospectToken(request, metadata=by("edge", person.access_token)))
        == "PERMISSION_DENIED SCOPE_MISSING"
    )
    answer = await token.tokens.IntrospectToken(request, metadata=by("edge", admin.access_token))
    assert answer.content_type == "application/json"
    assert json.loads(answer.data)["sub"] == str(BOB)
    nonsense = await token.tokens.IntrospectToken(
        token_service_pb2.IntrospectTokenRequest(token="x"), metadata=by("edge", admin.access_token)
    )
    assert json.loads(nonsense.data) == {"active": False}


async def test_a_denial_by_the_access_rules_is_written_down(token: Process) -> None:
    person = await token.sign_in(uuid.uuid4())
    request = token_service_pb2.IntrospectTokenRequest(token="x")
    assert (
        await reason(token.tokens.IntrospectToken(request, metadata=by("edge", person.access_token)))
        == "PERMISSION_DENIED SCOPE_MISSING"
    )
    async with Database.open(token.database_url) as database:
        rows = await database.fetch("SELECT payload FROM outbox WHERE destination = 'access.denied'")
    (event,) = (
        event
        for row in rows
        if (event := audit_event_pb2.AuditEvent.FromString(row["payload"])).session == person.session
    )
    assert (event.reason, event.outcome) == ("SCOPE_MISSING", audit_event_pb2.OUTCOME_FAILURE)
    assert (event.address, event.detail["method"]) == (
        "198.51.100.9",
        "/authmesh.token.v1.TokenService/IntrospectToken",
    )


async def test_lists_go_page_by_page_and_a_token_of_another_list_is_refused(token: Process) -> None:
    user, admin = uuid.uuid4(), await token.admin(uuid.uuid4())
    issued = [await token.sign_in(user) for _ in range(3)]
    own = by("edge", issued[0].access_token)

    def page(parent: str, page_token: str = "") -> token_service_pb2.ListSessionsRequest:
        return token_service_pb2.ListSessionsRequest(parent=parent, page_size=2, page_token=page_token)

    first = await token.tokens.ListSessions(page("users/me"), metadata=own)
    second = await token.tokens.ListSessions(page(f"users/{user}", first.next_page_token), metadata=own)
    assert [one.name for one in (*first.sessions, *second.sessions)] == [one.session for one in issued[::-1]]
    assert second.next_page_token == ""
    for parent, page_token in (
        (f"users/{BOB}", first.next_page_token),
        (f"users/{user}", "nonsense"),
        (f"users/{user}", "AAAA"),
    ):
        call = token.tokens.ListSessions(page(parent, page_token), metadata=by("edge", admin.access_token))
        assert await reason(call) == "INVALID_ARGUMENT FIELD_INVALID page_token"


async def test_sessions_of_others_are_the_administrators(token: Process) -> None:
    alice, bob, admin = await token.sign_in(uuid.uuid4()), await token.sign_in(BOB), await token.admin(uuid.uuid4())
    request = token_service_pb2.RevokeSessionRequest(name=bob.session)
    assert (
        await reason(token.tokens.RevokeSession(request, metadata=by("edge", alice.access_token)))
        == "PERMISSION_DENIED SCOPE_MISSING"
    )
    assert await reason(token.tokens.RevokeSession(request, metadata=by("edge", admin.access_token))) == "OK"
    assert (
        await reason(token.tokens.RefreshToken(refresh(bob), metadata=by("edge"))) == "UNAUTHENTICATED REFRESH_INVALID"
    )
    everything = token_service_pb2.RevokeAllSessionsRequest(parent="users/me", except_current=True)
    answer = await token.tokens.RevokeAllSessions(everything, metadata=by("edge", alice.access_token))
    assert answer.revoked_count == 0


@pytest.mark.parametrize(("request_type", "fields", "expected"), [
    ("RefreshToken", {"client_id": "demo"}, "refresh_token"),
    ("RefreshToken", {"refresh_token": "x" * 513, "client_id": "demo"}, "refresh_token"),
    ("RefreshToken", {"refresh_token": "x", "client_id": "demo", "device": {"instance_id": "no uuid"}},
    "device.instance_id"),
    ("RevokeToken", {}, "token"), ("RevokeToken", {"token": "x" * 8193}, "token"),
])  # fmt: skip
async def test_bad_input_is_named(token: Process, request_type: str, fields: dict[str, Any], expected: str) -> None:
    request = getattr(token_service_pb2, f"{request_type}Request")(**fields)
    assert (
        await reason(getattr(token.tokens, request_type)(request, metadata=by("edge")))
        == f"INVALID_ARGUMENT FIELD_INVALID {expected}"
    )


@pytest.mark.parametrize(
    "name", ["users/1/sessions/2", "users/me", "users/me/sessions/x", f"users/{ALICE}/sessions/", ""]
)
async def test_a_name_that_is_none_is_the_field_s_fault(token: Process, name: str) -> None:
    issued = await token.sign_in()
    call = token.tokens.RevokeSession(
        token_service_pb2.RevokeSessionRequest(name=name), metadata=by("edge", issued.access_token)
    )
    assert (await reason(call)).startswith("INVALID_ARGUMENT FIELD_INVALID name")


async def test_only_named_nodes_call_internal_methods(token: Process) -> None:
    request = token_issuer_pb2.IssueTokensRequest(subject=str(ALICE), client_id="demo", amr=["pwd"])
    request.auth_time.GetCurrentTime()
    for node in ("edge", "user", "resource", "nobody"):
        assert (
            await reason(token.issuer.IssueTokens(request, metadata=by(node))) == "PERMISSION_DENIED CALLER_NOT_ALLOWED"
        )
    assert await reason(token.issuer.IssueTokens(request)) == "PERMISSION_DENIED CALLER_NOT_ALLOWED"


async def test_it_stops_on_sigterm(new_database_url: Callable[[str], Awaitable[str]], valkey_server: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="token-") as directory:
        variables = environment(Path(directory), await new_database_url("services.token"), valkey_server.url)
        async with running(variables) as token:
            token.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                assert await token.process.wait() == 0


@pytest.mark.parametrize(("variable", "content", "expected"), [
    ("CLIENTS_FILE", "clients: {demo: {}}", "clients.demo: display_name is missing"), ("ROLES_FILE", "[", "mistake"),
    ("SIGNING_KEY_FILE", "no key", "not a PEM private key"),
    ("SIGNING_SECRETS", None, "SIGNING_SECRETS"),
    ("SIGNING_LEAD_SECONDS", "60", "SIGNING_LEAD_SECONDS=60 is unsafe"),
    ("ACCESS_TOKEN_MAX_SECONDS", "300", "the client demo"),
])  # fmt: skip
async def test_a_wrong_setting_stops_it_with_one_clear_line(
    tmp_path: Path, variable: str, content: str | None, expected: str
) -> None:
    variables = environment(tmp_path, "postgresql://x@/x", "redis://x")
    variables["SOCKET"] = variables["EGRESS"] = "/nonexistent/s"
    if content is None:
        del variables[variable]
    elif not variable.endswith("_FILE"):
        variables[variable] = content
    else:
        file = tmp_path / "mistake"
        file.write_text(content)
        variables[variable] = str(file)
    process = await start(variables)
    output, _ = await process.communicate()
    assert process.returncode == 1
    assert expected in output.decode()
    assert "Traceback" not in output.decode()
