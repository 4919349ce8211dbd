"""What the methods of Token cost at most: held to the contract, and so to docs/limits.md."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from authmesh.token.v1 import client_service_pb2, key_service_pb2, token_service_pb2
from authmesh.token.v1.client_service_pb2_grpc import ClientServiceStub, add_ClientServiceServicer_to_server
from authmesh.token.v1.key_service_pb2_grpc import KeyServiceStub, add_KeyServiceServicer_to_server
from authmesh.token.v1.token_service_pb2_grpc import TokenServiceStub, add_TokenServiceServicer_to_server

from mesh.ids import uuid7
from mesh.outbox.work import Work
from services.token.clients.admin import ClientAdmin
from services.token.clients.service import ClientService
from services.token.keys.admin import KeyAdmin
from services.token.keys.local import LocalKeys
from services.token.keys.schedule import RotationSchedule
from services.token.keys.service import KeyService
from services.token.keys.store import KeyStore
from services.token.revocation.revoker import Revoker
from services.token.service import TokenService
from tests.integration.services.token.conftest import Token, assemble
from tests.integration.services.token.keys.conftest import stored
from tests.kit.clients import jwks
from tests.kit.metering import hold_to_contract, metered
from tests.kit.role_scopes import ROLES
from tests.kit.serving import TrustedCaller, served
from tests.kit.tokens import Mint

Client = client_service_pb2.Client
SESSIONS = 210
"""Of one person: each was a sign-in."""


def caller_with(*scopes: str) -> TrustedCaller:
    caller = TrustedCaller()
    caller.scopes |= set(scopes)
    return caller


def calls_of(stub: Any, messages: Any) -> Callable[..., Callable[[], Awaitable[Any]]]:
    def call(method: str, **fields: Any) -> Callable[[], Awaitable[Any]]:
        request = getattr(messages, f"{method}Request")(**fields)
        return lambda: getattr(stub, method)(request)

    return call


async def test_sessions_cost_no_more_than_the_contract_says(new_database_url: Callable[[str], Awaitable[str]]) -> None:
    async with metered(await new_database_url("services.token")) as (database, meter):
        token: Token = await assemble(database)
        no_client_tokens: Any = None
        service = TokenService(
            token.refreshes,
            no_client_tokens,
            token.sign_outs,
            token.introspection,
            jwks=bytes,
            metadata={},
            clock=token.clock,
        )
        caller = caller_with("token:introspect")
        person, other = uuid7(), uuid7()
        sessions = {
            owner: [await token.sign_in(owner, instance=uuid7()) for _ in range(SESSIONS)] for owner in (person, other)
        }
        caller.subject = str(person)
        async with served([(add_TokenServiceServicer_to_server, service)], caller) as channel:
            call = calls_of(TokenServiceStub(channel), token_service_pb2)
            names = [f"users/me/sessions/{token.claims(issued).session}" for issued in sessions[person]]
            calls = {
                "IntrospectToken": [
                    *(call("IntrospectToken", token=issued.access_token) for issued in sessions[person][:50]),
                    call("IntrospectToken", token=sessions[person][0].refresh_token),
                    call("IntrospectToken", token="x" * 8192),
                ],
                "ListSessions": [call("ListSessions", parent="users/me", page_size=200) for _ in range(10)],
                "RevokeSession": [call("RevokeSession", name=name) for name in names[:3]],
                "RevokeAllSessions": [call("RevokeAllSessions", parent="users/me")],
            }
            measured = {name: await meter.measure(each) for name, each in calls.items()}
    hold_to_contract("authmesh.token.v1.TokenService", measured)


async def test_clients_cost_no_more_than_the_contract_says(new_database_url: Callable[[str], Awaitable[str]]) -> None:
    async with metered(await new_database_url("services.token")) as (database, meter):
        token = await assemble(database)
        desk = ClientAdmin(token.work, Revoker(token.store, token.log), token.denials, ROLES)
        async with served(
            [(add_ClientServiceServicer_to_server, ClientService(desk))], caller_with("admin:clients", *ROLES.known)
        ) as channel:
            call = calls_of(ClientServiceStub(channel), client_service_pb2)
            keys = jwks(*(Mint(f"key{number}") for number in range(5)))
            scopes = sorted(ROLES.known)

            def client(number: int, **fields: Any) -> Client:
                return Client(name=f"clients/c{number:04}", display_name="é" * 100, scopes=scopes, **fields)

            for number in range(100, 310):
                await call("CreateClient", client=client(number, jwks=keys, confidential=True))()
            calls = {
                "CreateClient": [
                    call("CreateClient", client=client(number, jwks=keys, confidential=True)) for number in range(10)
                ],
                "GetClient": [call("GetClient", name=client(number).name) for number in range(10)],
                "ListClients": [call("ListClients", page_size=200) for _ in range(10)],
                "UpdateClient": [
                    call("UpdateClient", client=Client(name=client(number).name, scopes=scopes[:1]))
                    for number in range(10)
                ],
                "DeleteClient": [call("DeleteClient", name=client(number).name) for number in range(10)],
            }
            measured = {name: await meter.measure(each) for name, each in calls.items()}
    hold_to_contract("authmesh.token.v1.ClientService", measured)


async def test_keys_cost_no_more_than_the_contract_says(new_database_url: Callable[[str], Awaitable[str]]) -> None:
    async with metered(await new_database_url("services.token")) as (database, meter):
        token, store = await assemble(database), KeyStore(database)

        def clock() -> datetime:
            return datetime.now(UTC)

        custody = LocalKeys(b"s" * 32)
        orders = KeyAdmin(
            Work(database, "token"),
            store,
            token.log,
            RotationSchedule(timedelta(0), timedelta(hours=10)),
        )
        keys = [
            stored(await custody.create("ES256"), custody, publish_time=clock() - timedelta(hours=1)) for _ in range(3)
        ]
        # One that retires, the active one, and one that waits.
        for before, key in zip([None, *keys], keys, strict=False):
            async with database.transaction() as tx:
                if before:
                    await store.retire(tx, before.key_id, clock(), clock() + timedelta(hours=1))
                await store.publish(tx, key)
                if key is not keys[-1]:
                    await store.activate(tx, key.key_id, clock())
        async with served(
            [(add_KeyServiceServicer_to_server, KeyService(orders, clock=clock))], caller_with("admin:keys")
        ) as channel:
            call = calls_of(KeyServiceStub(channel), key_service_pb2)
            calls = {
                "ListKeys": [call("ListKeys") for _ in range(5)],
                "RotateKey": [call("RotateKey")],
                "RevokeKey": [call("RevokeKey", name=f"keys/{key.key_id}") for key in keys],
            }
            measured = {name: await meter.measure(each) for name, each in calls.items()}
    hold_to_contract("authmesh.token.v1.KeyService", measured)
