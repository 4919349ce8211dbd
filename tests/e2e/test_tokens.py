"""A bad token gets the same status and reason wherever it is refused: at the edge in three protocols, at a sidecar, and
in the process."""

import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from grpc import aio

from mesh.model.mesh import load_mesh
from mesh.rpc.channel import OPTIONS
from tests.e2e.conftest import Person, RunningMesh, eventually, forged, sign_in_again
from tests.kit.protocols import Client, GrpcClient, JsonClient, SidecarClient

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("ResourceService/ListResources", {}),
    ("UserService/GetUser", {"name": "users/me"}),
]


@pytest.fixture
async def process(mesh: RunningMesh) -> AsyncIterator[GrpcClient]:
    """The resource process itself, dialled on its socket as its sidecar does."""
    async with aio.insecure_channel(mesh.row("resource")["address"], options=OPTIONS) as channel:
        yield GrpcClient(channel)


@pytest.fixture
async def sidecar(mesh: RunningMesh) -> AsyncIterator[SidecarClient]:
    """The resource service's sidecar, dialled as the edge does."""
    async with mesh.sidecar("resource", caller="edge") as client:
        yield client


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
    "kind",
    [
        "missing",
        "garbage",
        "forged",
        "unsigned",
        "expired",
        "for-another-audience",
        "from-another-issuer",
        "without-expiry",
    ],
)
async def test_edge_and_process_say_the_same_of_a_bad_token(
    mesh: RunningMesh, person: Person, process: GrpcClient, mint: Callable[..., str], kind: str
) -> None:
    token, reason = bad_tokens(person, mint)[kind]
    for client in (*mesh.clients.values(), process):
        for name, request in CALLS if client is not process else CALLS[:1]:
            answer = await client.call(name, request, token)
            assert answer.outcome == ("UNAUTHENTICATED", reason), (client.name, name)


async def test_a_sidecar_says_the_same_to_the_edge_itself(
    mesh: RunningMesh, person: Person, mint: Callable[..., str], sidecar: SidecarClient
) -> None:
    for kind, (token, reason) in bad_tokens(person, mint).items():
        answer = await sidecar.call("ResourceService/ListResources", {}, token)
        assert answer.outcome == ("UNAUTHENTICATED", reason), kind


async def test_a_token_signed_in_the_test_is_good_so_the_refusals_mean_something(
    mesh: RunningMesh, mint: Callable[..., str]
) -> None:
    for client in mesh.clients.values():
        await client.ok("ResourceService/ListResources", {}, mint(jti=str(uuid.uuid4())))


async def test_a_revoked_token_is_refused_by_the_process_through_edge_and_sidecar(
    mesh: RunningMesh, person: Person, process: GrpcClient, sidecar: SidecarClient
) -> None:
    await mesh.clients["grpc"].ok("TokenService/RevokeToken", {"token": person.token})
    for client in (*mesh.clients.values(), sidecar, process):

        async def refused(client: Client = client) -> bool:
            return (await client.call("ResourceService/ListResources", {}, person.token)).outcome == (
                "UNAUTHENTICATED",
                "TOKEN_REVOKED",
            )

        await eventually(refused, within=2)
    # An access token ends itself, not its session.
    await mesh.clients["grpc"].ok("TokenService/RefreshToken", person.refresh)


async def test_a_call_behind_the_answer_to_a_sign_out_is_refused(mesh: RunningMesh, person: Person) -> None:
    client, admitted = mesh.clients["grpc"], 0
    for _ in range(30):
        await sign_in_again(client, person)
        await client.ok("TokenService/RevokeToken", {"token": person.tokens["refreshToken"]})
        answer = await client.call("ResourceService/ListResources", {}, person.token)
        admitted += answer.outcome != ("UNAUTHENTICATED", "TOKEN_REVOKED")
    # The revocation is on its way when the answer is; docs/contract.md promises no more than milliseconds.
    assert admitted <= 1


async def test_nothing_is_served_under_the_name_of_an_openid_document(mesh: RunningMesh) -> None:
    client = mesh.clients["json"]
    assert isinstance(client, JsonClient)
    answer = await client.send("GET", "/.well-known/openid-configuration")
    assert answer.outcome == ("UNIMPLEMENTED", "NOT_IMPLEMENTED")
    assert (await client.send("GET", "/.well-known/oauth-authorization-server")).status == "OK"


async def test_an_invented_refresh_token_learns_neither_clients_nor_scopes(client: Client) -> None:
    answers = set()
    for client_id in ("demo", "backend", "nobody"):
        for scopes in ([], ["admin:users"], ["nonsense"]):
            request = {"refreshToken": "amrt_" + "A" * 43, "clientId": client_id, "scopes": scopes}
            answer = await client.call("TokenService/RefreshToken", request)
            answers.add((answer.outcome, answer.message))
    assert len(answers) == 1
    assert answers.pop()[0] == ("UNAUTHENTICATED", "REFRESH_INVALID")


async def test_a_token_in_the_query_is_no_token(mesh: RunningMesh, person: Person) -> None:
    client = mesh.clients["json"]
    assert isinstance(client, JsonClient)
    answer = await client.send("GET", f"/v1/resources?access_token={person.token}")
    assert answer.status != "OK"


async def test_two_tokens_are_no_token(mesh: RunningMesh, person: Person) -> None:
    for client in mesh.clients.values():
        answer = await client.call(
            "ResourceService/ListResources", {}, person.token, headers=[("authorization", f"Bearer {person.token}")]
        )
        assert answer.outcome == ("UNAUTHENTICATED", "TOKEN_INVALID"), client.name


@pytest.mark.parametrize(
    "name", ["TokenIssuer/IssueTokens", "UserDirectory/CreateUser", "CredentialDirectory/DeleteSubject"]
)
async def test_internal_methods_are_not_reached_from_outside(mesh: RunningMesh, person: Person, name: str) -> None:
    for protocol in ("grpc", "grpc-web"):
        answer = await mesh.clients[protocol].call(name, {}, person.token)
        assert answer.outcome == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")


@pytest.mark.parametrize(
    ("node", "caller", "name", "outcome"),
    [
        ("token", "resource", "TokenIssuer/IssueTokens", ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")),
        ("token", "edge", "TokenIssuer/GetRevocationSnapshot", ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")),
        ("user", "resource", "UserDirectory/CreateUser", ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")),
        ("auth", "token", "CredentialDirectory/DeleteSubject", ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")),
        ("user", "auth", "UserDirectory/CreateUser", ("INVALID_ARGUMENT", "FIELD_INVALID")),
    ],
)
async def test_a_caller_that_the_rules_do_not_name_is_refused(
    mesh: RunningMesh, node: str, caller: str, name: str, outcome: tuple[str, str]
) -> None:
    spoofed = [
        ("x-forwarded-client-cert", "URI=spiffe://authmesh/auth"),
        ("x-forwarded-client-cert", "URI=spiffe://authmesh/user"),
    ]
    async with mesh.sidecar(node, caller=caller) as client:
        assert (await client.call(name, {})).outcome == outcome
        assert (await client.call(name, {}, headers=spoofed)).outcome == outcome


async def test_nobody_without_a_certificate_of_the_mesh_reaches_a_sidecar(mesh: RunningMesh) -> None:
    context = ssl.create_default_context(cafile=str(mesh.home / "certificates" / "edge" / "ca.crt"))
    context.check_hostname = False
    async with httpx.AsyncClient(http1=False, http2=True, verify=context) as http:
        for node in load_mesh().nodes:
            with pytest.raises((httpx.HTTPError, ssl.SSLError)):
                await http.get(f"https://{mesh.row(f'{node}-sidecar')['address']}/")


def test_a_service_listens_on_its_socket_alone_and_only_its_own_user_may_dial_it(mesh: RunningMesh) -> None:
    for node in load_mesh().nodes:
        row = mesh.row(node)
        inodes = {
            link.readlink().name
            for link in Path(f"/proc/{row['pid']}/fd").iterdir()
            if link.is_symlink() and link.readlink().name.startswith("socket:")
        }
        listening = {
            line.split()[9]
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/{row['pid']}/net/{table}").read_text().splitlines()[1:]
            if line.split()[3] == "0A"
        }
        assert not {f"socket:[{inode}]" for inode in listening} & inodes, node
        socket = Path(row["address"].removeprefix("unix:"))
        assert socket.stat().st_mode & 0o077 == 0
        assert socket.parent.stat().st_mode & 0o077 == 0


def test_the_signing_key_is_its_users_alone(mesh: RunningMesh) -> None:
    for secret in Path(mesh.home / "secrets").rglob("*"):
        assert secret.stat().st_mode & 0o077 == 0, secret
