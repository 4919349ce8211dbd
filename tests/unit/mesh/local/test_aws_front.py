"""What the AWS emulator's port lets through: requests that botocore signed with this mesh's key, and nothing else."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from botocore import auth as botocore_auth
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.model import Shape
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from mesh.local.components import aws_front
from mesh.local.components.aws_front import FUNCTION_KEY, HEALTH, Front

ENDPOINT = "http://127.0.0.1:4566"
KEY, SECRET = "AUTHMESH0123456789AB", "a secret of this mesh"
SERVICES = frozenset({"sqs", "s3"})


class Emulator:
    """Behind the front: notes what came through."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        assert not message["more_body"]
        self.bodies.append(message["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})


def signed(
    method: str = "POST", path: str = "/", body: bytes = b"{}", *, service: str = "sqs", key: str = KEY,
    secret: str = SECRET,
    headers: Mapping[str, str] | None = None, at: datetime | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A request as botocore signs it."""
    request = AWSRequest(
        method=method, url=ENDPOINT + path, data=body, headers={"host": "127.0.0.1:4566", **(headers or {})}
    )
    # S3 signs the body's hash as a header of its own, which the others have not.
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(Credentials(key, secret), service, "us-east-1")
    with mock.patch.object(
        botocore_auth, "get_current_datetime", return_value=(at or datetime.now(UTC)).replace(tzinfo=None)
    ):
        signer.add_auth(request)
    return {"method": method, "path": path, "headers": dict(request.headers.items()), "body": body}


async def ask(
    request: dict[str, Any], front: Front | None = None, *, chunks: int = 1
) -> tuple[int, bytes, list[bytes]]:
    """Status and body of the answer, and what came through."""
    emulator = Emulator()
    front = front or Front(emulator, KEY, SECRET, SERVICES)
    front._behind = emulator
    path, _, query = request["path"].partition("?")
    scope = {
        "type": "http", "method": request["method"], "path": path, "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), str(value).encode("latin-1")) for name,
        value in request["headers"].items()],
    }  # fmt: skip
    body, size = request["body"], max(1, -(-len(request["body"]) // chunks))
    parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    waiting = [
        {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await front(scope, receive, send)
    return sent[0]["status"], sent[1]["body"], emulator.bodies


@pytest.mark.parametrize("service", ["sqs", "s3"])
async def test_what_the_meshs_key_signed_comes_through_whole(service: str) -> None:
    status, answer, through = await ask(signed(service=service, body=b"some body"), chunks=3)
    assert (status, answer, through) == (200, b"served", [b"some body"])


@given(
    key=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30),
    parameters=st.dictionaries(st.text("abcXYZ-_.~09", min_size=1, max_size=8), st.text(max_size=8), max_size=4),
)
def test_paths_and_queries_are_read_as_botocore_signs_them(key: str, parameters: dict[str, str]) -> None:
    from urllib.parse import quote, urlencode

    path = f"/bucket/{quote(key, safe='/~')}" + (f"?{urlencode(parameters, quote_via=quote)}" if parameters else "")
    assert asyncio.run(ask(signed("GET", path, b"", service="s3")))[0] == 200


UNSIGNED = {"method": "POST", "path": "/", "headers": {"host": "127.0.0.1:4566"}, "body": b"{}"}


def changed(request: dict[str, Any], **headers: str) -> dict[str, Any]:
    return request | {"headers": request["headers"] | headers}


REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "no signature": (lambda: UNSIGNED, "MissingAuthenticationToken"),
    "a signature of version 2": (lambda: changed(UNSIGNED, authorization="AWS key:signature"),
    "MissingAuthenticationToken"),
    "a signature without its parts": (lambda: changed(UNSIGNED, authorization="AWS4-HMAC-SHA256 Credential=a/b"),
    "MissingAuthenticationToken"),
    "a presigned address": (lambda: UNSIGNED | {"path": f"/?X-Amz-Credential={KEY}&X-Amz-Signature=0"},
    "MissingAuthenticationToken"),
    "the key that emulators take": (lambda: signed(key="test", secret="test"), "InvalidClientTokenId"),
    "an account as the key": (lambda: signed(key=FUNCTION_KEY, secret="test"), "InvalidClientTokenId"),
    "an empty key": (lambda: signed(key="", secret="test"), "InvalidClientTokenId"),
    "another secret": (lambda: signed(secret="guessed"), "SignatureDoesNotMatch"),
    "another body": (lambda: signed() | {"body": b"{ }"}, "SignatureDoesNotMatch"),
    "another body for S3": (lambda: signed(service="s3") | {"body": b"{ }"}, "XAmzContentSHA256Mismatch"),
    "another path": (lambda: signed() | {"path": "/other"}, "SignatureDoesNotMatch"),
    "another query": (lambda: signed(path="/?a=1") | {"path": "/?a=2"}, "SignatureDoesNotMatch"),
    "another method": (lambda: signed() | {"method": "PUT"}, "SignatureDoesNotMatch"),
    "a header that was added": (lambda: changed(signed(), **{"x-amz-target": "AWSLambda.Invoke"}),
    "SignatureDoesNotMatch"),
    "a body that is not signed": (lambda: changed(signed(service="s3"),
    **{"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}), "AccessDenied"),
    "an old signature": (lambda: signed(at=datetime.now(UTC) - timedelta(minutes=16)), "RequestTimeTooSkewed"),
    "a signature of tomorrow": (lambda: signed(at=datetime.now(UTC) + timedelta(minutes=16)), "RequestTimeTooSkewed"),
    "an API that the mesh does not need": (lambda: signed(service="lambda", path="/2015-03-31/functions"),
    "AccessDenied"),
    "the emulator's own administration": (lambda: signed(path="/_ministack/reset"), "AccessDenied"),
    "a web page": (lambda: changed(signed(), origin="https://evil.example"), "AccessDenied"),
    "a page without an origin": (lambda: changed(signed(), origin="null"), "AccessDenied"),
    "a name that DNS was made to answer for": (lambda: signed(headers={"host": "evil.example:4566"}), "AccessDenied"),
    "a name that means a function": (lambda: signed(headers={"host": "f.lambda-url.us-east-1.localhost:4566"}),
    "AccessDenied"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_nothing_else_comes_through(name: str) -> None:
    made, code = REFUSED[name]
    status, answer, through = await ask(made())
    assert (status >= 400, through) == (True, []), name
    assert code.encode() in answer


@pytest.mark.parametrize(
    ("headers", "parser"), [({"x-amz-target": "AmazonSQS.ListQueues"}, "json"), ({}, "rest-xml"), ({}, "query")]
)
async def test_refusals_are_worded_as_the_sdk_reads_them(headers: dict[str, str], parser: str) -> None:
    status, answer, _ = await ask(changed(UNSIGNED, **headers))
    read = create_parser(parser).parse(
        {"headers": {}, "body": answer, "status_code": status}, Shape("Any", {"type": "structure"})
    )
    assert read["Error"]["Code"] == "MissingAuthenticationToken"


async def test_nothing_is_read_of_a_stranger() -> None:
    async def receive() -> Any:
        raise AssertionError("read")

    async def send(message: Any) -> None:
        sent.append(message)

    sent: list[Any] = []
    request = signed(key="AUTHMESHGUESSED")
    headers = [(name.lower().encode(), value.encode()) for name, value in request["headers"].items()]
    scope = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "headers": headers}
    await Front(Emulator(), KEY, SECRET, SERVICES)(scope, receive, send)
    assert sent[0]["status"] == 403


async def test_a_body_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_front, "BODY_LIMIT", 1000)
    assert (await ask(signed(body=bytes(1000))))[0] == 200
    status, answer, through = await ask(signed(body=bytes(1001)), chunks=4)
    assert (status, through) == (400, [])
    assert b"EntityTooLarge" in answer


async def test_health_tells_nothing_and_takes_no_page() -> None:
    probe = {"method": "GET", "path": HEALTH, "headers": {"host": "localhost"}, "body": b""}
    assert await ask(probe) == (200, b"", [])
    assert (await ask(changed(probe, origin="https://evil.example")))[0] == 403


async def test_functions_sign_with_their_account_where_functions_are_served() -> None:
    with_functions = Front(Emulator(), KEY, SECRET, SERVICES | {"lambda"})
    assert (await ask(signed(key=FUNCTION_KEY), with_functions))[0] == 200
    assert (await ask(signed(key=FUNCTION_KEY, secret="test"), with_functions))[0] == 403


@pytest.mark.parametrize(
    ("request_", "served"),
    [
        (changed(UNSIGNED, **{"x-amz-target": "AWSCognitoIdentityProviderService.InitiateAuth"}), True),
        (changed(UNSIGNED, **{"x-amz-target": "AWSCognitoIdentityProviderService.AdminDeleteUser"}), False),
        (changed(UNSIGNED, **{"x-amz-target": "AmazonSQS.InitiateAuth"}), False),
        (UNSIGNED | {"method": "GET", "path": "/us-east-1_AbCd1/.well-known/jwks.json", "body": b""}, True),
        (UNSIGNED | {"method": "GET", "path": "/bucket/us-east-1_AbCd1/.well-known/jwks.json", "body": b""}, False),
        (UNSIGNED | {"method": "GET", "path": "/us-east-1_AbCd1/.well-known/openid-configuration", "body": b""}, False),
    ],
)
async def test_what_clients_of_a_user_pool_call_needs_no_signature_where_there_is_one(
    request_: dict[str, Any], served: bool
) -> None:
    with_cognito = Front(Emulator(), KEY, SECRET, SERVICES | {"cognito-idp"})
    assert (await ask(request_, with_cognito))[0] == (200 if served else 403)
    assert (await ask(request_))[0] == 403
    from_a_page = changed(request_, origin="https://evil.example")
    assert (await ask(from_a_page, with_cognito))[0] == 403


async def test_a_web_socket_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await Front(Emulator(), KEY, SECRET, SERVICES)({"type": "websocket"}, mock.AsyncMock(), send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
