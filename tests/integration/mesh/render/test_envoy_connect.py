"""Connect at the edge: bounded like every other form, and refused in its own words by whichever filter refuses."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from authmesh.resource.v1 import resource_service_pb2
from google.protobuf.message import Message
from grpc import aio
from grpc_status import rpc_status

from mesh.contract import Contract
from mesh.errors import Aborted, Reason, Unavailable
from mesh.model.mesh import load_mesh
from mesh.render.request_size import request_limit
from mesh.rpc.errors import to_status
from tests.conftest import held
from tests.kit.envoy_chain import Chain, running
from tests.kit.protocols import Answer, from_connect, from_connect_stream, method
from tests.kit.raw_http2 import Field, Stream, connected, frame, grpc_head

CONTRACT = Contract.load()
SIGN_IN, LIST, WATCH = (
    method(name) for name in ("AuthService/SignIn", "ResourceService/ListResources", "ResourceService/WatchResources")
)
CREATE = method("ResourceService/CreateResource")
UNARY, STREAM = ("application/json", "application/proto"), ("application/connect+json", "application/connect+proto")


@pytest.fixture(scope="module")
async def chain() -> AsyncIterator[Chain]:
    async with held(running(load_mesh(), CONTRACT, ["auth", "token", "resource"])) as found:
        yield found


def head(path: str, content: str, *more: Field) -> list[tuple[str, str | bytes]]:
    return grpc_head(path, ("content-type", content), ("connect-protocol-version", "1"), ("te", None), *more)


def token(chain: Chain) -> Field:
    return "authorization", f"Bearer {chain.signer.token()}"


async def ask(chain: Chain, path: str, content: str, body: bytes, *more: Field) -> Stream:
    async with connected(chain.edge, chain.client_context()) as connection:
        return await (await connection.request(head(path, content, *more), body)).end()


def read(answer: Stream) -> Answer:
    if answer.headers["content-type"].startswith("application/connect+"):
        assert answer.headers[":status"] == "200"
        return from_connect_stream(answer.body, answer.headers)
    return from_connect(int(answer.headers[":status"]), answer.body, answer.headers)


def body_for(content: str, size: int = 0) -> bytes:
    return frame(bytes(size)) if content in STREAM else bytes(size)


# Bounds


@pytest.mark.parametrize("content", UNARY)
async def test_a_request_is_refused_by_its_announced_size_before_any_of_it_comes(chain: Chain, content: str) -> None:
    limit = request_limit(CONTRACT, SIGN_IN)
    async with connected(chain.edge, chain.client_context()) as connection:
        sent = await connection.open([*head(SIGN_IN.path, content), ("content-length", str(limit + 1))])
        assert read(await sent.end(within=2)).outcome == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
        waiting = await connection.open([*head(SIGN_IN.path, content), ("content-length", str(limit))])
        with pytest.raises(TimeoutError):
            await waiting.end(within=0.3)


@pytest.mark.parametrize("content", [*UNARY, *STREAM])
async def test_no_more_is_kept_of_a_request_than_its_method_lets_it_be(chain: Chain, content: str) -> None:
    async with connected(chain.edge, chain.client_context()) as connection:
        sent = await connection.open(head(SIGN_IN.path, content))
        await connection.send(sent, bytes(5_000_000), end=True)
        answer = await sent.end()
        assert answer.reset or read(answer).outcome == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    assert not chain.processes["auth"].heard


@pytest.mark.parametrize("content", [*UNARY, *STREAM])
async def test_nothing_is_kept_of_a_request_whose_token_is_missing(chain: Chain, content: str) -> None:
    path = WATCH.path if content in STREAM else CREATE.path
    async with connected(chain.edge, chain.client_context()) as connection:
        sent = await connection.open(head(path, content))
        assert read(await sent.end(within=2)).outcome == ("UNAUTHENTICATED", "TOKEN_MISSING")


# Words


@pytest.mark.parametrize("content", [*UNARY, *STREAM])
async def test_a_refusal_is_connects_own_whichever_filter_makes_it(chain: Chain, content: str) -> None:
    path, body = (WATCH.path if content in STREAM else LIST.path), body_for(content)
    good = token(chain)
    cases: Sequence[tuple[str, Sequence[Field], tuple[str, str], tuple[str, ...]]] = [
        # In the order of the filters: before the bridge, and behind it.
        (path, [good, ("grpc-timeout", "abc")], ("INVALID_ARGUMENT", "FIELD_INVALID"), ("grpc-timeout",)),
        (path, [], ("UNAUTHENTICATED", "TOKEN_MISSING"), ()),
        (path, [("authorization", f"Bearer {chain.signer.token(exp=1)}")], ("UNAUTHENTICATED", "TOKEN_EXPIRED"), ()),
        ("/authmesh.auth.v1.AuthService/Nothing", [good], ("UNIMPLEMENTED", "NOT_IMPLEMENTED"), ()),
        ("/authmesh.user.v1.UserService/GetUser", [good], ("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE"), ()),
    ]
    for method_path, fields, outcome, at_fault in cases:
        answer = read(await ask(chain, method_path, content, body, *fields))
        assert (answer.outcome, answer.fields) == (outcome, at_fault)
        assert answer.message


@pytest.mark.parametrize("content", UNARY)
async def test_a_refusal_of_the_process_is_connects_own(chain: Chain, content: str) -> None:
    async def refuse(context: "aio.ServicerContext[Any, Any]") -> Message:
        await context.abort_with_status(rpc_status.to_status(to_status(Aborted(Reason.ETAG_MISMATCH, "read again"))))
        raise AssertionError

    chain.processes["resource"].answers[LIST.path] = refuse
    answer = read(await ask(chain, LIST.path, content, body_for(content), token(chain)))
    assert (*answer.outcome, answer.message) == ("ABORTED", "ETAG_MISMATCH", "read again")


@pytest.mark.parametrize("content", STREAM)
async def test_a_stream_tells_its_messages_and_then_why_it_ended(chain: Chain, content: str) -> None:
    async def broken(context: "aio.ServicerContext[Any, Any]") -> AsyncIterator[Message]:
        yield resource_service_pb2.WatchResourcesResponse(resume_token="a")
        await context.abort_with_status(rpc_status.to_status(to_status(Unavailable(Reason.REVOCATION_STALE, "wait"))))

    chain.processes["resource"].answers[WATCH.path] = broken
    answer = await ask(chain, WATCH.path, content, frame(b""), token(chain))
    assert answer.headers["content-type"] == content
    assert answer.body.startswith(
        frame(resource_service_pb2.WatchResourcesResponse(resume_token="a").SerializeToString())
    )
    assert read(answer).outcome == ("UNAVAILABLE", "REVOCATION_STALE")


async def test_the_process_is_told_which_messages_are_json(chain: Chain) -> None:
    resource = chain.processes["resource"]
    resource.answers.pop(LIST.path, None)
    for content, told in (("application/json", "json"), ("application/proto", None)):
        answer = await ask(chain, LIST.path, content, b"{}", token(chain), ("x-authmesh-codec", "other"))
        assert (answer.headers[":status"], answer.headers["content-type"]) == ("200", content)
        assert resource.heard[-1].metadata.get("x-authmesh-codec") == told
    assert (await json_call(chain))["details"][0]["reason"] == "TOKEN_MISSING"


async def json_call(chain: Chain) -> Any:
    """A call of the plain JSON form, which stays what it is."""
    async with chain.http() as http:
        return json.loads((await http.get("/v1/resources")).content)
