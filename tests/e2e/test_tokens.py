"""A bad token gets the same status and reason wherever it is refused: at the edge in three protocols, at a sidecar, and in the process."""

import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from grpc import aio

from mesh.rpc.channel import OPTIONS
from tests.e2e.conftest import Person, RunningMesh, eventually, forged
from tests.e2e.protocols import Client, GrpcClient

CALLS: list[tuple[str, dict[str, Any]]] = [("ResourceService/ListResources", {}), ("UserService/GetUser", {"name": "users/me"})]


def node_credentials(mesh: RunningMesh, node: str) -> grpc.ChannelCredentials:
    """What a node shows and trusts."""
    directory = mesh.home / "certificates" / node
    ca, key, certificate = ((directory / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt"))
    return grpc.ssl_channel_credentials(ca, key, certificate)


def sidecar_channel(mesh: RunningMesh, node: str, caller: str) -> aio.Channel:
    """Dials a node's sidecar with another node's certificate."""
    # grpc verifies names, not SPIFFE URIs; the sidecar's certificate has no name, and here the sidecar is under test, not the client.
    return aio.secure_channel(mesh.row(f"{node}-sidecar")["address"], node_credentials(mesh, caller), options=[*OPTIONS, ("grpc.ssl_target_name_override", node)])


@pytest.fixture
async def process(mesh: RunningMesh) -> AsyncIterator[GrpcClient]:
    """The resource process itself, dialled on its socket as its sidecar does."""
    async with aio.insecure_channel(mesh.row("resource")["address"], options=OPTIONS) as channel:
        yield GrpcClient(channel)


@pytest.fixture
def mint(mesh: RunningMesh, person: Person) -> Callable[..., str]:
    """Makes a token as Token would, with other claims: the test has the local mesh's signing key."""
    key = (mesh.home / "secrets" / "signing-key.pem").read_text()

    def make(**changes: Any) -> str:
        header = jwt.get_unverified_header(person.token)
        claims = {name: value for name, value in (person.claims | changes).items() if value is not None}
        return jwt.encode(claims, key, algorithm="ES256", headers={"kid": header["kid"], "typ": header["typ"]})

    return make


def bad_tokens(person: Person, mint: Callable[..., str]) -> dict[str, tuple[str | None, str]]:
    now = int(time.time())
    return {
        "missing": (None, "TOKEN_MISSING"),
        "garbage": ("garbage", "TOKEN_INVALID"),
        "forged": (forged(person.token), "TOKEN_INVALID"),
        "unsigned": (jwt.encode(person.claims, "", algorithm="none"), "TOKEN_INVALID"),
        "expired": (mint(iat=now - 700, exp=now - 100), "TOKEN_EXPIRED"),
        "for-another-audience": (mint(aud="somebody-else"), "TOKEN_INVALID"),
        "from-another-issuer": (mint(iss="https://elsewhere.example"), "TOKEN_INVALID"),
        "without-expiry": (mint(exp=None), "TOKEN_INVALID"),
    }


@pytest.mark.parametrize(
    "kind", ["missing", "garbage", "forged", "unsigned", "expired", "for-another-audience", "from-another-issuer", "without-expiry"]
)
async def test_edge_and_process_say_the_same_of_a_bad_token(
    mesh: RunningMesh, person: Person, process: GrpcClient, mint: Callable[..., str], kind: str
) -> None:
    token, reason = bad_tokens(person, mint)[kind]
    for client in (*mesh.clients.values(), process):
        for name, request in CALLS if client is not process else CALLS[:1]:
            answer = await client.call(name, request, token)
            assert answer.outcome == ("UNAUTHENTICATED", reason), (client.name, name)


async def test_a_sidecar_says_the_same_to_the_edge_itself(mesh: RunningMesh, person: Person, mint: Callable[..., str], sidecar: GrpcClient) -> None:
    for kind, (token, reason) in bad_tokens(person, mint).items():
        answer = await sidecar.call("ResourceService/ListResources", {}, token)
        assert answer.outcome == ("UNAUTHENTICATED", reason), kind


async def test_a_token_signed_in_the_test_is_good_so_the_refusals_mean_something(mesh: RunningMesh, mint: Callable[..., str]) -> None:
    for client in mesh.clients.values():
        await client.ok("ResourceService/ListResources", {}, mint(jti=str(uuid.uuid4())))


async def test_a_revoked_token_is_refused_by_the_process_through_edge_and_sidecar(
    mesh: RunningMesh, person: Person, process: GrpcClient, sidecar: GrpcClient
) -> None:
    await mesh.clients["grpc"].ok("TokenService/RevokeToken", {"token": person.token})
    for client in (*mesh.clients.values(), sidecar, process):

        async def refused(client: Client = client) -> bool:
            return (await client.call("ResourceService/ListResources", {}, person.token)).outcome == ("UNAUTHENTICATED", "TOKEN_REVOKED")

        await eventually(refused, within=2)
    # An access token ends itself, not its session.
    await mesh.clients["grpc"].ok("TokenService/RefreshToken", person.refresh)


async def test_a_token_in_the_query_is_no_token(mesh: RunningMesh, person: Person) -> None:
    from tests.e2e.protocols import JsonClient

    client = mesh.clients["json"]
    assert isinstance(client, JsonClient)
    answer = await client.send("GET", f"/v1/resources?access_token={person.token}")
    assert answer.status != "OK"


async def test_two_tokens_are_no_token(mesh: RunningMesh, person: Person) -> None:
    for client in mesh.clients.values():
        answer = await client.call("ResourceService/ListResources", {}, person.token, headers=[("authorization", f"Bearer {person.token}")])
        assert answer.outcome == ("UNAUTHENTICATED", "TOKEN_INVALID"), client.name


@pytest.mark.parametrize("name", [path.removeprefix("/") for path in ("TokenIssuer/IssueTokens", "UserDirectory/CreateUser", "CredentialDirectory/DeleteSubject")])
async def test_internal_methods_are_not_reached_from_outside(mesh: RunningMesh, person: Person, name: str) -> None:
    for protocol in ("grpc", "grpc-web"):
        answer = await mesh.clients[protocol].call(name, {}, person.token)
        assert answer.outcome == ("UNIMPLEMENTED", "NOT_IMPLEMENTED")


@pytest.fixture
async def sidecar(mesh: RunningMesh) -> AsyncIterator[GrpcClient]:
    """The resource service's sidecar, dialled as the edge does."""
    async with spiffe_channel(mesh, "resource", "edge") as channel:
        yield GrpcClient(channel)


class spiffe_channel:  # noqa: N801 - reads as the function it stands for
    """A channel to a sidecar with a node's certificate, through an Envoy-less TLS that checks the authority alone."""

    def __init__(self, mesh: RunningMesh, node: str, caller: str) -> None:
        self._channel = sidecar_channel(mesh, node, caller)

    async def __aenter__(self) -> aio.Channel:
        return self._channel

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()


def test_the_signing_key_is_its_users_alone(mesh: RunningMesh) -> None:
    for secret in Path(mesh.home / "secrets").rglob("*"):
        assert secret.stat().st_mode & 0o077 == 0, secret
