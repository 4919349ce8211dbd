"""The demo user: signed up through the edge like anyone, once; its password is random and stays in a private file."""

import asyncio
import json
import shlex
import ssl
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.local import inbox
from mesh.operator.errors import OperatorError
from mesh.operator.secret_file import load_or_create_password

EMAIL = "demo@authmesh.example"
CLIENT_ID = "demo"
TIMEOUT = 20.0
"""Seconds for the code to arrive."""


@dataclass(frozen=True, slots=True)
class DemoUser:
    """Who to sign in as."""

    email: str
    password: str
    client_id: str = CLIENT_ID


@dataclass(frozen=True, slots=True)
class Edge:
    """The public address, and the certificate to trust there."""

    url: str
    ca_file: Path

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and JSON of a call.

        Raises:
            OperatorError: no answer.
        """
        return await asyncio.to_thread(self._call, path, json.dumps(body).encode())

    async def get(self, path: str) -> dict[str, Any]:
        """A JSON document.

        Raises:
            OperatorError: no answer.
        """
        return (await asyncio.to_thread(self._call, path, None))[1]

    def _call(self, path: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(self.url + path, data=body, headers={"content-type": "application/json"})
        context = ssl.create_default_context(cafile=str(self.ca_file))
        # No proxies: the edge is on this machine.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(request, timeout=TIMEOUT) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                body_text = error.read()
            try:
                return error.code, json.loads(body_text)
            except ValueError:
                return error.code, {"message": body_text.decode(errors="replace")[:200]}
        except OSError as error:
            raise OperatorError(f"the edge at {self.url} does not answer: {error}") from None


def demo_user(secrets: Path) -> DemoUser:
    """The demo user's name and password.

    Raises:
        OperatorError: the password file can't be read or written.
    """
    return DemoUser(EMAIL, load_or_create_password(secrets / "demo-password"))


async def ensure(user: DemoUser, edge: Edge, inbox_file: Path) -> None:
    """Makes the user, unless it can sign in already.

    Raises:
        OperatorError: a step was refused, or the code did not arrive.
    """
    credentials = {"email": user.email, "password": user.password}
    status, _ = await edge.post("/v1/auth:signIn", credentials | {"clientId": user.client_id})
    if status == 200:
        return
    before = len(inbox.read(inbox_file, user.email))
    await _succeed(edge, "/v1/auth:signUp", credentials | {"displayName": "Demo"})
    code = await _code(inbox_file, user.email, before)
    if code is None:
        # An earlier start ended between sign-up and verification.
        await _succeed(edge, "/v1/auth:resendCode", {"email": user.email})
        code = await _code(inbox_file, user.email, before)
    if code is None:
        raise OperatorError(
            f"no code for {user.email} came into the inbox within {TIMEOUT:.0f} s: see the logs of auth and aws"
        )
    await _succeed(edge, "/v1/auth:verifyEmail", {"email": user.email, "code": code})


async def _succeed(edge: Edge, path: str, body: dict[str, Any]) -> None:
    status, answer = await edge.post(path, body)
    if status != 200:
        raise OperatorError(f"the demo user can't be made: {path} answered {status}: {answer.get('message', answer)}")


async def _code(inbox_file: Path, email: str, known: int) -> str | None:
    deadline = asyncio.get_running_loop().time() + TIMEOUT / 2
    while asyncio.get_running_loop().time() < deadline:
        new = [message.code for message in inbox.read(inbox_file, email)[known:] if message.code]
        if new:
            return new[-1]
        await asyncio.sleep(0.03)
    return None


def first_calls(edge: Edge, user: DemoUser) -> str:
    """Calls to paste into a shell: over JSON with curl, and over gRPC with `authmesh call`."""
    credentials = shlex.quote(json.dumps({"email": user.email, "password": user.password, "clientId": user.client_id}))
    curl = f"curl -s --cacert {shlex.quote(str(edge.ca_file))}"
    json_body = "-H 'content-type: application/json' -d"
    bearer = '-H "authorization: Bearer $TOKEN"'
    extract = """sed -E 's/.*"accessToken": ?"([^"]+).*/\\1/'"""
    return "\n".join(
        [
            "First calls, to paste. JSON:",
            f"  TOKEN=$({curl} {edge.url}/v1/auth:signIn {json_body} {credentials} | {extract})",
            f'  {curl} {edge.url}/v1/resources {bearer} {json_body} \'{{"displayName": "first"}}\'',
            f"  {curl} {edge.url}/v1/users/me {bearer}",
            "gRPC:",
            f"  {_command()} call AuthService/SignIn {credentials}",
            f'  {_command()} call ResourceService/ListResources --token "$TOKEN"',
        ]
    )


def _command() -> str:
    """The `authmesh` command as this shell would find it."""
    own = Path(sys.executable).with_name("authmesh")
    if not own.exists():
        return "authmesh"
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)
