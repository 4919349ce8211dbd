"""The running mesh, and people in it."""

import asyncio
import base64
import json
import os
import re
import secrets
import signal
import ssl
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from mesh.operator.aws_account import AwsAccount
from tests.conftest import held
from tests.kit.protocols import Client, SidecarClient, open_clients

AUTHMESH = Path(sys.executable).parent / "authmesh"
START_SECONDS = 90


async def eventually(condition: Callable[[], Awaitable[object]], within: float = 20) -> Any:
    """The first true answer of `condition`, asked again and again."""
    async with asyncio.timeout(within):
        while not (answer := await condition()):
            await asyncio.sleep(0.05)
        return answer


@dataclass(frozen=True)
class RunningMesh:
    """A mesh that `authmesh run` started."""

    home: Path
    process: asyncio.subprocess.Process
    clients: Mapping[str, Client]
    command: Path = AUTHMESH

    @property
    def status(self) -> dict[str, Any]:
        """.mesh/status.json, as scripts read it."""
        content: dict[str, Any] = json.loads((self.home / "status.json").read_text())
        return content

    @property
    def aws(self) -> AwsAccount:
        """The AWS account that it uses."""
        return AwsAccount.running({"AUTHMESH_HOME": str(self.home)})

    def row(self, name: str) -> dict[str, Any]:
        """The row of one process in the status."""
        return next(row for row in self.status["processes"] if row["name"] == name)

    @asynccontextmanager
    async def sidecar(self, node: str, *, caller: str) -> AsyncIterator[SidecarClient]:
        """A client of a node's sidecar with the certificate of another node."""
        certificates = self.home / "certificates" / caller
        context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        context.check_hostname = False
        context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
        address = self.row(f"{node}-sidecar")["address"]
        async with httpx.AsyncClient(
            base_url=f"https://{address}", http1=False, http2=True, verify=context, timeout=15
        ) as http:
            yield SidecarClient(http)

    async def authmesh(self, *arguments: str) -> tuple[int, str, str]:
        """Runs the `authmesh` command on this mesh: exit status, output, errors."""
        environment = os.environ | {"AUTHMESH_HOME": str(self.home)}
        process = await asyncio.create_subprocess_exec(
            self.command, *arguments, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        output, errors = await process.communicate()
        return process.returncode or 0, output.decode(), errors.decode()

    async def inbox(self, email: str) -> list[dict[str, Any]]:
        """The messages sent to an address, newest last."""
        _, output, _ = await self.authmesh("inbox", "--email", email, "--json")
        return (
            [json.loads(line) for line in output.splitlines() if line.startswith("{")]
            if not output.startswith("[")
            else json.loads(output)
        )

    async def code(self, email: str) -> str:
        """The newest code sent to an address."""

        async def newest() -> str:
            codes = [message["code"] for message in await self.inbox(email) if message["code"]]
            return codes[-1] if codes else ""

        return str(await eventually(newest))

    async def kill(self, name: str) -> None:
        """Kills a process of the mesh, and waits until another one is healthy in its place."""
        pid = self.row(name)["pid"]
        os.kill(pid, signal.SIGKILL)

        async def back() -> bool:
            row = self.row(name)
            return bool(row["health"] == "healthy" and row["pid"] != pid)

        await eventually(back)


def running(home: Path, **environment: str) -> AbstractAsyncContextManager[RunningMesh]:
    """Runs a mesh of its own in `home` on free ports, and stops it as a user does."""
    return running_by(AUTHMESH, home, **environment)


@asynccontextmanager
async def running_by(command: Path, home: Path, **environment: str) -> AsyncIterator[RunningMesh]:
    """As `running`, by the `authmesh` command of another environment."""
    # Meshes of tests are many at a time, and Linux gives a user few inotify instances.
    settings = {"AUTHMESH_HOME": str(home), "EDGE_PORT": "0", "RATE_LIMIT_FACTOR": "1000", "RELOAD": "no"}
    log = (home.parent / f"{home.name}.log").open("w+")
    process = await asyncio.create_subprocess_exec(
        command,
        "run",
        env=os.environ | settings | environment,
        stdout=log,
        stderr=log,
    )
    try:

        async def ready() -> bool:
            if process.returncode is not None:
                raise AssertionError(f"authmesh run ended with {process.returncode}:\n{Path(log.name).read_text()}")
            if not (home / "status.json").exists():
                return False
            status = json.loads((home / "status.json").read_text())
            return bool(status["state"] == "ready" and status["runner"]["pid"] == process.pid)

        try:
            await eventually(ready, within=START_SECONDS)
        except TimeoutError:
            raise AssertionError(f"the mesh did not get ready:\n{Path(log.name).read_text()[-6000:]}") from None
        status = json.loads((home / "status.json").read_text())
        async with open_clients(status["edge"], Path(status["ca_file"])) as clients:
            yield RunningMesh(home, process, clients, command)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(30):
                await process.wait()
        log.close()


@pytest.fixture(scope="session")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningMesh]:
    async with held(running(tmp_path_factory.mktemp("e2e") / "mesh", RELOAD="yes")) as started:
        yield started


@pytest.fixture(params=["grpc", "grpc-web", "json"])
def client(mesh: RunningMesh, request: pytest.FixtureRequest) -> Client:
    """A client of the edge: each test that asks for one runs in all three protocols."""
    return mesh.clients[request.param]


@dataclass
class Person:
    """Somebody with an account, and perhaps a session."""

    email: str
    password: str
    tokens: Mapping[str, Any]
    instance_id: str

    @property
    def token(self) -> str:
        return str(self.tokens["accessToken"])

    @property
    def claims(self) -> dict[str, Any]:
        payload = self.token.split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return claims

    @property
    def name(self) -> str:
        return f"users/{self.claims['sub']}"

    @property
    def refresh(self) -> dict[str, Any]:
        """The request that spends this session's refresh token."""
        return {
            "refreshToken": self.tokens["refreshToken"],
            "clientId": "demo",
            "device": {"instanceId": self.instance_id},
        }


async def sign_up(mesh: RunningMesh, client: Client, *, verify: bool = True, sign_in: bool = True) -> Person:
    """A new person, by default verified and signed in."""
    person = Person(
        f"{secrets.token_hex(8)}@example.com", f"correct horse {secrets.token_hex(8)}", {}, str(uuid.uuid4())
    )
    await client.ok("AuthService/SignUp", {"email": person.email, "password": person.password, "displayName": "Ada"})
    if verify:
        await client.ok("AuthService/VerifyEmail", {"email": person.email, "code": await mesh.code(person.email)})
    if verify and sign_in:
        await sign_in_again(client, person)
    return person


async def sign_in_again(client: Client, person: Person, **more: Any) -> None:
    """Starts a new session of a person."""
    request = {
        "email": person.email,
        "password": person.password,
        "clientId": "demo",
        "device": {"instanceId": person.instance_id},
    } | more
    person.tokens = (await client.ok("AuthService/SignIn", request))["tokens"]


@pytest.fixture
async def person(mesh: RunningMesh) -> Person:
    """Somebody new, signed in."""
    return await sign_up(mesh, mesh.clients["grpc"])


@pytest.fixture(scope="session")
async def administrator(mesh: RunningMesh) -> Person:
    """Somebody with the role `admin`, granted on the machine as the README says."""
    client = mesh.clients["grpc"]
    admin = await sign_up(mesh, client)
    status, output, errors = await mesh.authmesh("admin", "grant", admin.email)
    assert status == 0, output + errors

    async def granted() -> bool:
        await sign_in_again(client, admin)
        return "admin" in admin.claims.get("roles", [])

    await eventually(granted)
    await sign_in_again(
        client,
        admin,
        scopes=["session:manage", "user:read", "user:write", "admin:users", "token:introspect", "admin:audit"],
    )
    return admin


def forged(token: str) -> str:
    """The token with another signature."""
    head, _, signature = token.rpartition(".")
    return f"{head}.{re.sub('[A-Za-z0-9]', lambda found: 'A' if found[0] != 'A' else 'B', signature, count=20)}"
