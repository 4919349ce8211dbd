"""The refresh token's cookie on real Envoys: which pages get anywhere with it, and which methods it reaches."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf import empty_pb2
from google.protobuf.message import Message

from mesh.contract import Contract
from mesh.model.mesh import load_mesh
from tests.conftest import held
from tests.kit.envoy_chain import JWKS, ORIGIN, Chain, running
from tests.kit.protocols import method

CONTRACT = Contract.load()
COOKIE = "__Host-authmesh-refresh=secret"
SIGN_IN, REFRESH, REVOKE = (
    method("AuthService/SignIn"),
    method("TokenService/RefreshToken"),
    method("TokenService/RevokeToken"),
)


@pytest.fixture(scope="module")
async def chain() -> AsyncIterator[Chain]:
    async with held(running(load_mesh(), CONTRACT, ["auth", "token", "resource"])) as found:
        yield found


@pytest.fixture(autouse=True)
def processes_that_set_a_cookie(chain: Chain) -> None:
    async def answer(context: Any) -> Message:
        await context.send_initial_metadata((("set-cookie", COOKIE),))
        return empty_pb2.Empty()

    for process in chain.processes.values():
        process.heard.clear()
        process.answers |= {path: answer for path in CONTRACT.rpcs if path != JWKS}


def json_path(rpc: Any) -> str:
    return str(rpc.http[0].template)


def grpc_web(headers: dict[str, str]) -> dict[str, str]:
    return {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", **headers}


@pytest.mark.parametrize("rpc", [REFRESH, REVOKE, SIGN_IN], ids=lambda rpc: rpc.name)
async def test_a_page_s_cookie_goes_both_ways_where_it_belongs(chain: Chain, rpc: Any) -> None:
    own = f"https://127.0.0.1:{chain.addresses[chain.gateway].port}"
    node = "auth" if rpc is SIGN_IN else "token"
    async with chain.http() as http:
        for origin in (own, ORIGIN):
            asked = {"origin": origin, "x-authmesh-refresh": "cookie", "cookie": COOKIE}
            for answer in (
                await http.post(json_path(rpc), json={}, headers=asked),
                await http.post(rpc.path, content=bytes(5), headers=grpc_web(asked)),
            ):
                assert answer.status_code == 200
                assert answer.headers["set-cookie"] == COOKIE
                assert chain.processes[node].heard[-1].metadata["cookie"] == COOKIE
                assert answer.headers.get("access-control-allow-credentials") == ("true" if origin == ORIGIN else None)


@pytest.mark.parametrize(
    "origin", ["https://elsewhere.test", "https://app.test.elsewhere.test", "https://app.test:444", "null", None]
)
async def test_a_page_of_another_origin_gets_nowhere_with_the_cookie(chain: Chain, origin: str | None) -> None:
    async with chain.http() as http:
        # However it spells the header: that it is there is enough.
        for value in ("cookie", "Cookie", "", "cookie, cookie"):
            asked = {"x-authmesh-refresh": value, "cookie": COOKIE, **({"origin": origin} if origin else {})}
            for rpc in (REFRESH, REVOKE, SIGN_IN):
                refused = await http.post(json_path(rpc), json={}, headers=asked)
                assert (refused.status_code, refused.json()["details"][0]["reason"]) == (403, "CALLER_NOT_ALLOWED")
                refused = await http.post(rpc.path, content=bytes(5), headers=grpc_web(asked))
                assert refused.headers["grpc-status"] == "7"
                assert "set-cookie" not in refused.headers
    assert not [heard for process in chain.processes.values() for heard in process.heard]


async def test_no_other_method_sees_or_sets_a_cookie(chain: Chain) -> None:
    token = chain.signer.token()
    async with chain.http() as http:
        answer = await http.get("/v1/resources", headers={"cookie": COOKIE, "authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers
        assert "cookie" not in chain.processes["resource"].heard[-1].metadata
        answer = await http.post("/v1/auth:signUp", json={}, headers={"cookie": COOKIE})
        assert "set-cookie" not in answer.headers
        assert "cookie" not in chain.processes["auth"].heard[-1].metadata


@pytest.mark.parametrize(
    ("sent", "forwarded"),
    [
        ([f"theme=dark; {COOKIE}; id=1"], COOKIE),
        (["theme=dark", COOKIE], COOKIE),
        ([b"name=Andr\xe9; " + COOKIE.encode()], COOKIE),
        ([f"{COOKIE}; {COOKIE}2"], f"{COOKIE}; {COOKIE}2"),
        ([f"x{COOKIE}; {COOKIE.lower()}"], None),
        ([b"__Host-authmesh-refresh=secr\xe9t"], None),
        (["__Host-authmesh-refresh="], None),
        (["theme=dark", ";", ""], None),
    ],
)
@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
async def test_cookies_of_other_applications_stop_at_the_edge(
    chain: Chain, protocol: str, sent: list[str | bytes], forwarded: str | None
) -> None:
    headers = [("origin", ORIGIN), ("x-authmesh-refresh", "cookie"), *(("cookie", cookie) for cookie in sent)]
    async with chain.http(http2=protocol == "h2", http1=protocol != "h2") as http:
        assert (await http.post(json_path(REFRESH), json={}, headers=headers)).status_code == 200  # type: ignore[arg-type]
    assert chain.processes["token"].heard[-1].metadata.get("cookie") == forwarded


async def test_a_page_of_an_allowed_origin_may_send_the_header_and_the_cookie(chain: Chain) -> None:
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-authmesh-refresh",
    }
    async with chain.http() as http:
        allowed = await http.options("/v1/token:refresh", headers={"origin": ORIGIN, **asked})
    assert allowed.headers["access-control-allow-credentials"] == "true"
    assert "x-authmesh-refresh" in allowed.headers["access-control-allow-headers"]
