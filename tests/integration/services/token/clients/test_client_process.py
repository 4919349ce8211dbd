"""ClientService and IssueClientToken of a Token process as it is started, and a second process that has to follow."""

import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from authmesh.token.v1 import (
    client_service_pb2,
    client_service_pb2_grpc,
    token_issuer_pb2,
    token_service_pb2,
    token_set_pb2,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from tests.conftest import held
from tests.kit.clients import assertion, jwks
from tests.kit.token_calls import Process, by, environment, eventually, reason, refresh, running
from tests.kit.tokens import Mint

ISSUER = "https://issuer.test"
MINT = Mint("k1")


@pytest.fixture(scope="module")
async def processes(
    new_database_url: Callable[[str], Awaitable[str]], valkey_server: Any
) -> AsyncIterator[tuple[Process, Process]]:
    async with AsyncExitStack() as stack:
        one, other = (Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="token-"))) for _ in range(2))
        variables = environment(one, await new_database_url("services.token"), valkey_server.url)
        beside = variables | {"SOCKET": str(other / "s"), "EGRESS": str(other / "e")}
        first = await stack.enter_async_context(held(running(variables)))
        yield first, await stack.enter_async_context(held(running(beside)))


@pytest.fixture
def token(processes: tuple[Process, Process]) -> Process:
    return processes[0]


@pytest.fixture
def clients(token: Process) -> Any:
    return client_service_pb2_grpc.ClientServiceStub(token.channel)


@pytest.fixture
async def admin(token: Process) -> Any:
    return by("edge", (await token.admin(uuid.uuid4())).access_token)


def new_name() -> str:
    return f"clients/c{uuid.uuid4().hex[:12]}"


def app(name: str, **fields: Any) -> client_service_pb2.CreateClientRequest:
    return client_service_pb2.CreateClientRequest(
        client=client_service_pb2.Client(name=name, scopes=["user:read", "session:manage"], **fields)
    )


async def test_a_client_is_made_read_changed_and_deleted_as_the_contract_says(
    token: Process, clients: Any, admin: Any
) -> None:
    name = new_name()
    created = await clients.CreateClient(
        app(name, display_name="App", access_token_lifetime=Duration(seconds=60)), metadata=admin
    )
    assert (created.name, created.display_name, created.access_token_lifetime.seconds) == (name, "App", 60)
    assert (created.refresh_idle_lifetime.seconds, created.session_lifetime.seconds, created.refresh_grace.seconds) == (
        1209600,
        7776000,
        30,
    )
    assert created == await clients.GetClient(client_service_pb2.GetClientRequest(name=name), metadata=admin)
    assert await reason(clients.CreateClient(app(name), metadata=admin)) == "ALREADY_EXISTS CLIENT_ALREADY_EXISTS"

    def update(*paths: str, **fields: Any) -> Any:
        request = client_service_pb2.UpdateClientRequest(
            client=client_service_pb2.Client(name=name, **fields), update_mask=FieldMask(paths=paths)
        )
        return clients.UpdateClient(request, metadata=admin)

    # The mask decides; what it names and the request leaves out goes back to its default.
    changed = await update("access_token_lifetime", display_name="ignored", session_limit=9)
    assert (changed.access_token_lifetime.seconds, changed.display_name, changed.session_limit) == (600, "App", 0)
    # Without one, what is set is changed.
    changed = await update(display_name="New", session_limit=2)
    assert (changed.display_name, changed.session_limit, list(changed.scopes)) == (
        "New",
        2,
        ["session:manage", "user:read"],
    )
    assert await reason(update("session_limit", session_limit=3, etag=created.etag)) == "ABORTED ETAG_MISMATCH"
    assert await reason(update("nothing")) == "INVALID_ARGUMENT FIELD_INVALID update_mask"
    # What can't be changed says nothing in a mask.
    assert await update("name", "etag", display_name="ignored") == changed
    assert (
        await reason(update(refresh_grace=Duration(nanos=1))) == "INVALID_ARGUMENT FIELD_INVALID client.refresh_grace"
    )
    assert (
        await reason(update(session_lifetime=Duration(seconds=0)))
        == "INVALID_ARGUMENT FIELD_INVALID client.session_lifetime"
    )
    assert (
        await reason(update(access_token_lifetime=Duration(seconds=2**40)))
        == "INVALID_ARGUMENT FIELD_INVALID client.access_token_lifetime"
    )
    await clients.DeleteClient(client_service_pb2.DeleteClientRequest(name=name, etag=changed.etag), metadata=admin)
    assert (
        await reason(clients.GetClient(client_service_pb2.GetClientRequest(name=name), metadata=admin))
        == "NOT_FOUND CLIENT_NOT_FOUND"
    )


async def test_clients_are_listed_page_by_page(token: Process, clients: Any, admin: Any) -> None:
    names = {new_name() for _ in range(3)} | {"clients/demo", "clients/backend"}
    for name in names - {"clients/demo", "clients/backend"}:
        await clients.CreateClient(app(name), metadata=admin)
    found, page_token = [], ""
    while True:
        page = await clients.ListClients(
            client_service_pb2.ListClientsRequest(page_size=2, page_token=page_token), metadata=admin
        )
        found += [client.name for client in page.clients]
        if not (page_token := page.next_page_token):
            break
    assert found == sorted(found)
    assert names <= set(found)
    for bad in ("x", "AAAA"):
        request = client_service_pb2.ListClientsRequest(page_token=bad)
        assert await reason(clients.ListClients(request, metadata=admin)) == "INVALID_ARGUMENT FIELD_INVALID page_token"


async def test_clients_are_the_administrators(token: Process, clients: Any) -> None:
    person = by("edge", (await token.sign_in(uuid.uuid4())).access_token)
    for call in (
        clients.ListClients(client_service_pb2.ListClientsRequest(), metadata=person),
        clients.CreateClient(app(new_name()), metadata=person),
        clients.DeleteClient(client_service_pb2.DeleteClientRequest(name="clients/demo"), metadata=person),
    ):
        assert await reason(call) == "PERMISSION_DENIED SCOPE_MISSING"


async def test_a_deletion_is_felt_at_once_in_every_process(
    processes: tuple[Process, Process], clients: Any, admin: Any
) -> None:
    _, second = processes
    name = new_name()
    await clients.CreateClient(app(name), metadata=admin)

    issued = await start_session(second, name)
    await clients.DeleteClient(client_service_pb2.DeleteClientRequest(name=name), metadata=admin)
    # No row of the session is live any more, whatever the other process remembers of the client.
    spent = refresh(issued)
    spent.client_id = name.removeprefix("clients/")
    assert await reason(second.tokens.RefreshToken(spent, metadata=by("edge"))) == "UNAUTHENTICATED REFRESH_INVALID"

    async def ask() -> str:
        request = token_service_pb2.ListSessionsRequest(parent="users/me")
        return await reason(second.tokens.ListSessions(request, metadata=by("edge", issued.access_token)))

    assert await eventually(ask, "UNAUTHENTICATED TOKEN_REVOKED") < 1


async def start_session(token: Process, name: str) -> token_set_pb2.TokenSet:
    request = token_issuer_pb2.IssueTokensRequest(
        subject=str(uuid.uuid4()), client_id=name.removeprefix("clients/"), amr=["pwd"]
    )
    request.auth_time.GetCurrentTime()
    return await token.issuer.IssueTokens(request, metadata=by("auth"))


async def test_a_backend_gets_a_token_of_its_own_and_introspects_with_it(
    processes: tuple[Process, Process], clients: Any, admin: Any
) -> None:
    token, other = processes
    update = client_service_pb2.UpdateClientRequest(
        client=client_service_pb2.Client(name="clients/backend", jwks=jwks(MINT))
    )
    await clients.UpdateClient(update, metadata=admin)
    text = assertion(MINT, "backend", ISSUER)
    own = await token.tokens.IssueClientToken(
        token_service_pb2.IssueClientTokenRequest(client_assertion=text), metadata=by("edge")
    )
    assert (list(own.scopes), own.refresh_token, own.session, own.token_type) == (
        ["token:introspect"],
        "",
        "",
        "Bearer",
    )
    assert not own.HasField("refresh_expire_time")
    # Used once is used everywhere.
    for process in processes:
        again = process.tokens.IssueClientToken(
            token_service_pb2.IssueClientTokenRequest(client_assertion=text), metadata=by("edge")
        )
        assert await reason(again) == "UNAUTHENTICATED CREDENTIALS_INVALID"
    person = await token.sign_in(uuid.uuid4())
    request = token_service_pb2.IntrospectTokenRequest(token=person.access_token)
    for process in processes:
        answer = await process.tokens.IntrospectToken(request, metadata=by("edge", own.access_token))
        assert b'"active": true' in answer.data
    # It is nobody's session and no person.
    mine = token_service_pb2.ListSessionsRequest(parent="users/me")
    assert (
        await reason(token.tokens.ListSessions(mine, metadata=by("edge", own.access_token)))
        == "PERMISSION_DENIED SCOPE_MISSING"
    )
    wide = token_service_pb2.IssueClientTokenRequest(
        client_assertion=assertion(MINT, "backend", ISSUER), scopes=["admin:users"]
    )
    assert (
        await reason(other.tokens.IssueClientToken(wide, metadata=by("edge")))
        == "INVALID_ARGUMENT FIELD_INVALID scopes"
    )
