"""Nothing that a person or a client proves itself with is in any log of the mesh: not when all goes well, and not when
it doesn't.
"""

import base64
import secrets
import ssl
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.e2e.conftest import Person, RunningMesh, eventually, forged, sign_in_again, sign_up
from tests.kit.admin_url import admin_url
from tests.kit.protocols import Client, GrpcClient, GrpcWebClient, JsonClient, method


class Canaries:
    """Values that must be in no log, each with the place that it was planted in."""

    def __init__(self) -> None:
        self._planted: dict[str, str] = {}

    def new(self, place: str) -> str:
        """A value to plant."""
        return self.planted(place, f"Canary{secrets.token_hex(16)}")

    def planted(self, place: str, value: str) -> str:
        """A value that is one already."""
        self._planted[value] = place
        return value

    def found_in(self, logs: Path) -> list[str]:
        """Where any is found, as it is or in base64."""
        return [
            f"{place} in {log.name}: ...{content[max(0, at - 100) : at].decode(errors='replace')}"
            for log in sorted(logs.iterdir())
            for content in [log.read_bytes()]
            for value, place in self._planted.items()
            for form in forms(value)
            if (at := content.find(form)) >= 0
        ]


def forms(value: str) -> Iterator[bytes]:
    """How a value may be written."""
    yield value.encode()
    for shift in range(3):
        # What base64 makes of it depends on what is before it.
        encoded = base64.b64encode(b"\0" * shift + value.encode())
        yield encoded[4 : len(encoded) // 4 * 4 - 4]


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    return Canaries()


async def everything_right(mesh: RunningMesh, client: Client, canaries: Canaries) -> Person:
    """A journey in which each credential is good."""
    person = await sign_up(mesh, client, sign_in=False)
    canaries.planted("address", person.email)
    canaries.planted("password", person.password)
    canaries.planted("code", await mesh.code(person.email))
    await sign_in_again(client, person)
    note_tokens(person, canaries)
    person.tokens = await client.ok("TokenService/RefreshToken", person.refresh)
    note_tokens(person, canaries)
    await client.ok("UserService/GetUser", {"name": "users/me"}, person.token)
    return person


def note_tokens(person: Person, canaries: Canaries) -> None:
    canaries.planted("refresh token", person.tokens["refreshToken"])
    # The claims are no secret, and parts of them (ids) are in logs: the signature is what makes a token.
    canaries.planted("access token", person.token.rpartition(".")[2])


async def everything_wrong(client: Client, person: Person, canaries: Canaries) -> None:
    """Every credential of every public method, wrong in several ways."""
    new = canaries.new
    email, client_id = person.email, {"clientId": "demo"}
    for name, request in (
        ("AuthService/SignIn", {"email": email, "password": new("wrong password")} | client_id),
        (
            "AuthService/SignIn",
            {"email": f"{uuid.uuid4()}@example.com", "password": new("password of nobody")} | client_id,
        ),
        ("AuthService/SignIn", {"email": email, "password": new("long password") * 50} | client_id),
        ("AuthService/SignIn", {"email": new("password as address"), "password": "x"} | client_id),
        ("AuthService/SignIn", {"email": email, "password": "x", "clientId": new("password as client")}),
        (
            "AuthService/SignIn",
            {"email": email, "password": "x", "device": {"instanceId": new("instance")}} | client_id,
        ),
        ("AuthService/SignUp", {"email": email, "password": new("password of a second sign-up")}),
        (
            "AuthService/SignUp",
            {"email": f"{uuid.uuid4()}@example.com", "password": "p", "displayName": new("name") + "\x1b"},
        ),
        ("AuthService/VerifyEmail", {"email": email, "code": new("code"), "password": new("password with a code")}),
        ("AuthService/ResetPassword", {"email": email, "code": "12345678", "newPassword": new("new password")}),
        ("AuthService/VerifyMfa", {"challenge": new("challenge"), "recoveryCode": new("recovery code")}),
        ("AuthService/ExchangeToken", {"idToken": new("id token"), "nonce": new("nonce")} | client_id),
        ("TokenService/RefreshToken", {"refreshToken": f"amrt_{new('refresh token')}"} | client_id),
        ("TokenService/RevokeToken", {"token": new("revoked token")}),
        ("TokenService/IssueClientToken", {"clientAssertion": f"e30.{new('assertion')}.e30"}),
    ):
        assert (await client.call(name, request)).status in ("OK", *REFUSALS), name
    for token in (
        new("token"),
        f"e30.{new('claims of a token')}.e30",
        forged(person.token),
        f"{person.token} {new('after a token')}",
    ):
        assert (await client.call("UserService/GetUser", {"name": "users/me"}, token)).status == "UNAUTHENTICATED"
    change = {"currentPassword": new("current password"), "newPassword": new("changed password")}
    assert (await client.call("AuthService/ChangePassword", change, person.token)).status in REFUSALS


REFUSALS = (
    "INVALID_ARGUMENT",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNIMPLEMENTED",
    "INTERNAL",
)


async def everything_malformed(mesh: RunningMesh, person: Person, canaries: Canaries) -> None:
    """Credentials in what can't be read, and in headers that are no text."""
    new, json_client = canaries.new, mesh.clients["json"]
    assert isinstance(json_client, JsonClient)
    sign_in, refresh = "/v1/auth:signIn", "/v1/token:refresh"
    for path, body in (
        (sign_in, f'{{"email": 5, "password": "{new("password beside a number")}"}}'),
        (sign_in, f'{{"email": "a", "password": ["{new("password in a list")}"]}}'),
        (sign_in, f'{{"email": "a", "password": {new("password without quotes")}}}'),
        (sign_in, f'{{"email": "a", "password": "{new("password cut off")}'),
        (sign_in, f"email=a&password={new('password of a form')}"),
        (sign_in, f'{{"password": "{new("password before no text")}\xe9"}}'.encode("latin-1")),
        (f"{sign_in}?password={new('password in the query')}", "{}"),
        (f"{sign_in}?{new('password as parameter')}=1", "{}"),
        (f"{refresh}?refreshToken={new('refresh token in the query')}", "{}"),
    ):
        assert (await json_client.send("POST", path, body)).status != "OK", path
    for client in (mesh.clients["grpc"], mesh.clients["grpc-web"]):
        assert isinstance(client, GrpcClient | GrpcWebClient)
        for payload in (f"\x0a\x80{new('unread protobuf')}", f"\x12\x28{new('protobuf of no text')}\xff"):
            assert (await client.send(method("AuthService/SignIn"), payload.encode("latin-1"))).status != "OK"
    trust = ssl.create_default_context(cafile=mesh.status["ca_file"])
    async with httpx.AsyncClient(base_url=mesh.status["edge"], verify=trust, http2=True) as http:
        for header in (
            {
                "cookie": f"name=Andr\xe9; __Host-authmesh-refresh=amrt_{new('cookie beside no text')}",
                "x-authmesh-refresh": "cookie",
            },
            {
                "cookie": f"__Host-authmesh-refresh=amrt_{new('cookie that is no text')}\xe9",
                "x-authmesh-refresh": "cookie",
            },
            {"authorization": f"Bearer {person.token}\xe9"},
            {"authorization": f"Basic {new('basic credentials')}"},
            {"user-agent": "Andr\xe9"},
            {"x-request-id": f"{new('request id')}\xe9"},
            {"origin": mesh.status["edge"], "x-authmesh-refresh": new("cookie header")},
        ):
            encoded = {"origin": mesh.status["edge"]} | header
            headers = [(key.encode(), value.encode("latin-1")) for key, value in encoded.items()]
            for path in (refresh, "/v1/token:revoke", sign_in):
                await http.post(path, json={"email": "a@example.com", "clientId": "demo"}, headers=headers)
            await http.get("/v1/users/me", headers=headers)


@asynccontextmanager
async def broken_tables(mesh: RunningMesh) -> AsyncIterator[None]:
    """Every statement about credentials is a fault of ours: the tables are not what the code expects."""
    tables = {"auth": ("accounts", "sign_ups"), "token": ("sessions", "refresh_tokens"), "user": ("users",)}

    async def rename(before: str, after: str) -> None:
        for service, names in tables.items():
            admin = await asyncpg.connect(admin_url(mesh).replace("/postgres?", f"/authmesh_{service}?"))
            for name in names:
                await admin.execute(f"ALTER TABLE {name}{before} RENAME TO {name}{after}")
            await admin.close()

    await rename("", "_aside")
    try:
        yield
    finally:
        await rename("_aside", "")


SHOWN = {"demo-password", "databases.json", "aws.env"}
"""The first is for everyone at this machine to read, and the others have what is in further files."""


def note_secrets(mesh: RunningMesh, canaries: Canaries) -> None:
    """Those of the mesh itself. Random bytes would be written in hexadecimal or in base64, if at all."""
    files = [*(mesh.home / "secrets").iterdir(), *(mesh.home / part for part in ("valkey/password", "aws/secret-key"))]
    for file in (file for file in files if file.is_file() and file.name not in SHOWN):
        content = file.read_bytes()
        try:
            canaries.planted(file.name, content.decode().strip())
        except UnicodeDecodeError:
            canaries.planted(file.name, content.hex())
            canaries.planted(file.name, base64.b64encode(content).decode())


async def test_no_credential_is_in_any_log(mesh: RunningMesh, canaries: Canaries) -> None:
    note_secrets(mesh, canaries)
    for client in mesh.clients.values():
        person = await everything_right(mesh, client, canaries)
        await everything_wrong(client, person, canaries)
    await everything_malformed(mesh, person, canaries)
    async with broken_tables(mesh):
        await everything_wrong(client, person, canaries)
        broken = await client.call("TokenService/RefreshToken", person.refresh)
        assert broken.outcome == ("INTERNAL", "INTERNAL")
    # Whatever is logged late is there by then.
    marker = secrets.token_hex(8)

    async def written() -> bool:
        await mesh.clients["json"].call("AuthService/SignIn", {"email": "x"}, headers=[("x-request-id", marker)])
        return all(marker in (mesh.home / "logs" / f"{name}.log").read_text() for name in ("edge-access", "auth"))

    await eventually(written)
    _, status, _ = await mesh.authmesh("status", "--json")
    (mesh.home / "logs" / "status.log").write_text(status)
    assert canaries.found_in(mesh.home / "logs") == []
