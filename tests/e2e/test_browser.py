"""A page that keeps its refresh token in the cookie, through the real edge: the token is in no answer and no log, and
another page gets nowhere."""

import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from authmesh.token.v1 import token_service_pb2, token_set_pb2

from tests.e2e.conftest import Person, RunningMesh, eventually, sign_up
from tests.kit.protocols import method

NAME = "__Host-authmesh-refresh"
ASKED = {"x-authmesh-refresh": "cookie"}


class Page:
    """A page of the edge's own origin, in a browser."""

    def __init__(self, http: httpx.AsyncClient, origin: str) -> None:
        self.http = http
        self.origin = origin

    async def post(
        self, path: str, body: dict[str, Any], *, cookie: str = "", origin: str | None = None, **headers: str
    ) -> httpx.Response:
        sent = {
            "origin": origin or self.origin,
            **ASKED,
            **headers,
            **({"cookie": f"theme=dark; {NAME}={cookie}"} if cookie else {}),
        }
        # Each test says itself which cookie the browser has.
        self.http.cookies.clear()
        return await self.http.post(path, json=body, headers={name: value for name, value in sent.items() if value})


@pytest.fixture
async def page(mesh: RunningMesh) -> AsyncIterator[Page]:
    context = ssl.create_default_context(cafile=mesh.status["ca_file"])
    async with httpx.AsyncClient(base_url=mesh.status["edge"], verify=context, timeout=15) as http:
        yield Page(http, mesh.status["edge"])


@pytest.fixture
async def person(mesh: RunningMesh) -> Person:
    return await sign_up(mesh, mesh.clients["grpc"], sign_in=False)


def cookie(answer: httpx.Response) -> str:
    """The token in the one cookie that is set, once it is sure that no script can read it and no other page can send
    it."""
    assert answer.status_code == 200, answer.text
    (header,) = answer.headers.get_list("set-cookie")
    pair, *attributes = header.split("; ")
    name, _, value = pair.partition("=")
    assert name == NAME
    assert {*attributes} - {one for one in attributes if one.startswith("Max-Age=")} == {
        "Path=/",
        "Secure",
        "HttpOnly",
        "SameSite=Strict",
    }
    return value


async def sign_in(page: Page, person: Person) -> httpx.Response:
    return await page.post("/v1/auth:signIn", {"email": person.email, "password": person.password, "clientId": "demo"})


async def test_a_page_signs_in_refreshes_and_signs_out_and_never_sees_the_token(
    mesh: RunningMesh, page: Page, person: Person
) -> None:
    signed_in = await sign_in(page, person)
    first = cookie(signed_in)
    assert first.startswith("amrt_")
    assert "Max-Age=12096" in signed_in.headers["set-cookie"] or "Max-Age=12095" in signed_in.headers["set-cookie"]
    tokens = signed_in.json()["tokens"]
    assert "refreshToken" not in tokens
    assert "amrt_" not in signed_in.text
    refreshed = await page.post("/v1/token:refresh", {"clientId": "demo"}, cookie=first)
    second = cookie(refreshed)
    assert second != first
    assert "amrt_" not in refreshed.text
    assert refreshed.json()["session"] == tokens["session"]
    # A lost answer: the same successor again.
    assert cookie(await page.post("/v1/token:refresh", {"clientId": "demo"}, cookie=first)) == second
    signed_out = await page.post("/v1/token:revoke", {}, cookie=second)
    assert cookie(signed_out) == ""
    assert "Max-Age=0" in signed_out.headers["set-cookie"]
    over = await page.post("/v1/token:refresh", {"clientId": "demo"}, cookie=second)
    assert (over.status_code, over.json()["details"][0]["reason"]) == (401, "REFRESH_INVALID")

    async def refused() -> bool:
        me = await page.http.get("/v1/users/me", headers={"authorization": f"Bearer {refreshed.json()['accessToken']}"})
        return me.status_code == 401

    await eventually(refused, within=2)
    for log in (mesh.home / "logs").rglob("*"):
        if log.is_file():
            content = log.read_text(errors="replace")
            assert first not in content, log.name
            assert second not in content, log.name


async def test_the_same_over_grpc_web(mesh: RunningMesh, page: Page, person: Person) -> None:
    first = cookie(await sign_in(page, person))

    async def call(name: str, payload: bytes, sent: str) -> httpx.Response:
        headers = {
            "content-type": "application/grpc-web+proto",
            "x-grpc-web": "1",
            "origin": page.origin,
            "cookie": f"{NAME}={sent}",
            **ASKED,
        }
        return await page.http.post(
            method(name).path, content=struct.pack(">BI", 0, len(payload)) + payload, headers=headers
        )

    refreshed = await call(
        "TokenService/RefreshToken", token_service_pb2.RefreshTokenRequest(client_id="demo").SerializeToString(), first
    )
    size = struct.unpack(">I", refreshed.content[1:5])[0]
    tokens = token_set_pb2.TokenSet.FromString(refreshed.content[5 : 5 + size])
    assert (tokens.refresh_token, bool(tokens.access_token)) == ("", True)
    second = cookie(refreshed)
    assert cookie(await call("TokenService/RevokeToken", b"", second)) == ""
    over = await page.post("/v1/token:refresh", {"clientId": "demo"}, cookie=second)
    assert over.status_code == 401


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "https://127.0.0.1:1"])
async def test_a_page_of_another_origin_gets_nowhere(page: Page, person: Person, origin: str) -> None:
    token = cookie(await sign_in(page, person))
    for path, body in (("/v1/token:refresh", {"clientId": "demo"}), ("/v1/token:revoke", {}), ("/v1/auth:signIn", {})):
        refused = await page.post(path, body, cookie=token, origin=origin)
        assert (refused.status_code, refused.json()["details"][0]["reason"]) == (403, "CALLER_NOT_ALLOWED")
        assert "set-cookie" not in refused.headers
    # A form can send the cookie, and nothing that makes us look at it.
    plain = await page.http.post(
        "/v1/token:refresh",
        content='{"clientId": "demo"}',
        headers={"origin": origin, "content-type": "text/plain", "cookie": f"{NAME}={token}"},
    )
    assert plain.status_code == 400
    # None of it had an effect.
    cookie(await page.post("/v1/token:refresh", {"clientId": "demo"}, cookie=token))


@pytest.mark.parametrize(("headers", "sent", "status", "reason"), [
    ({"x-authmesh-refresh": ""}, True, 400, "FIELD_INVALID"),
    ({}, False, 401, "REFRESH_INVALID"),
    ({"x-authmesh-refresh": "body"}, True, 400, "FIELD_INVALID"),
])  # fmt: skip
async def test_the_cookie_is_read_when_it_is_asked_for_and_only_then(
    page: Page, person: Person, headers: dict[str, str], sent: bool, status: int, reason: str
) -> None:
    token = cookie(await sign_in(page, person))
    answer = await page.post("/v1/token:refresh", {"clientId": "demo"}, cookie=token if sent else "", **headers)
    assert (answer.status_code, answer.json()["details"][0]["reason"]) == (status, reason)


async def test_an_app_is_not_held_against_an_origin(mesh: RunningMesh, page: Page, person: Person) -> None:
    request = {"email": person.email, "password": person.password, "clientId": "demo"}
    for headers in ({}, {"origin": "https://elsewhere.example"}):
        answer = await page.http.post("/v1/auth:signIn", json=request, headers=headers)
        assert answer.json()["tokens"]["refreshToken"].startswith("amrt_")
        assert "set-cookie" not in answer.headers
    assert Path(mesh.status["ca_file"]).exists()
