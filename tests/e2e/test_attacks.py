"""What one anonymous caller sends, a few requests a second, and what everybody else has of it: nothing."""

import asyncio
import secrets
import ssl
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import pytest

from mesh.contract import Rpc
from tests.e2e.conftest import Person, RunningMesh, sign_up
from tests.kit.protocols import Answer, method
from tests.kit.raw_http2 import Field, call, connected, frame, grpc_head
from tests.kit.under_attack import good_calls

JWKS, SIGN_IN, REFRESH = (
    method("TokenService/GetJwks"),
    method("AuthService/SignIn"),
    method("TokenService/RefreshToken"),
)
INCOMPLETE = {
    "nothing": b"",
    "part of the prefix": b"\0\0\0",
    "prefix alone": frame(b"12345")[:5],
    "part of the message": frame(b"12345")[:-1],
}


class Stranger:
    """Somebody with a connection to the edge, and nothing else."""

    def __init__(self, mesh: RunningMesh) -> None:
        address = urlsplit(mesh.status["edge"])
        self.address = (address.hostname or "", address.port or 0)
        self.context = ssl.create_default_context(cafile=mesh.status["ca_file"])

    async def call(
        self, protocol: str, rpc: Rpc, *fields: Field, body: bytes | None = None, within: float = 15
    ) -> Answer:
        return await call(self.address, self.context, protocol, rpc, *fields, body=body, within=within)


@pytest.fixture
def stranger(mesh: RunningMesh) -> Stranger:
    return Stranger(mesh)


@pytest.fixture
async def good(mesh: RunningMesh) -> list[Callable[[], Awaitable[Answer]]]:
    """What somebody else does meanwhile: sign in, look at sessions and at a profile, fetch the keys."""
    person: Person = await sign_up(mesh, mesh.clients["grpc"])
    sign_in = {
        "email": person.email,
        "password": person.password,
        "clientId": "demo",
        "device": {"instanceId": person.instance_id},
    }
    return [
        lambda: mesh.clients["grpc"].call("AuthService/SignIn", sign_in),
        lambda: mesh.clients["json"].call("TokenService/ListSessions", {"parent": "users/me"}, person.token),
        lambda: mesh.clients["grpc-web"].call("UserService/GetUser", {"name": "users/me"}, person.token),
        lambda: mesh.clients["json"].call("TokenService/GetJwks", {}),
    ]


@pytest.mark.parametrize(
    "field",
    [("grpc-timeout", "abc"), ("grpc-encoding", "x"), ("x-bin", "!"), ("grpc-status", "x"), ("a!", "b")],
    ids=str,
)
async def test_headers_that_grpc_can_t_parse(
    stranger: Stranger, good: list[Callable[[], Awaitable[Answer]]], field: Field
) -> None:
    async with good_calls(*good, at_once=1):
        for _ in range(10):
            for protocol in ("grpc", "grpc-web", "connect", "json"):
                for rpc in (JWKS, SIGN_IN):
                    answer = await stranger.call(protocol, rpc, field)
                    assert answer.status in ("OK", "INVALID_ARGUMENT", "UNIMPLEMENTED")
                    if field[0] == "grpc-timeout":
                        assert (*answer.outcome, answer.fields) == (
                            "INVALID_ARGUMENT",
                            "FIELD_INVALID",
                            ("grpc-timeout",),
                        )


@pytest.mark.parametrize("protocol", ["grpc", "grpc-web"])
async def test_bodies_that_end_before_a_whole_message(
    stranger: Stranger, good: list[Callable[[], Awaitable[Answer]]], protocol: str
) -> None:
    async with good_calls(*good, at_once=1):
        for body in INCOMPLETE.values():
            for rpc in (JWKS, SIGN_IN, REFRESH):
                answers = await asyncio.gather(*(stranger.call(protocol, rpc, body=body, within=10) for _ in range(20)))
                assert {(*answer.outcome, answer.fields) for answer in answers} == {
                    ("INVALID_ARGUMENT", "FIELD_INVALID", ("request",))
                }


@pytest.mark.parametrize("body", [b"", b"AAA", b"AAAA", b"AAAAAAU=", b"AAAAAAVhYmM=", b"!!!!", b"A"], ids=str)
async def test_bodies_in_base64_that_end_before_a_whole_message(stranger: Stranger, body: bytes) -> None:
    answer = await stranger.call("grpc", SIGN_IN, ("content-type", "application/grpc-web-text"), body=body, within=10)
    assert answer.outcome == ("INVALID_ARGUMENT", "FIELD_INVALID")


@pytest.mark.parametrize("body", [b"", b"\0\0", frame(b"12345")[:-1], b"\7" + frame(b"x")[1:]], ids=str)
async def test_streams_of_connect_that_end_before_a_whole_message(stranger: Stranger, body: bytes) -> None:
    head = [("content-type", "application/connect+proto"), ("connect-protocol-version", "1"), ("te", None)]
    async with connected(stranger.address, stranger.context) as connection:
        answer = await (
            await connection.request(grpc_head("/authmesh.resource.v1.ResourceService/WatchResources", *head), body)
        ).end(within=10)
    # The token is asked for first; what counts is that there is an answer.
    assert b"unauthenticated" in answer.body


async def test_streams_to_methods_that_do_not_exist(
    stranger: Stranger, good: list[Callable[[], Awaitable[Answer]]]
) -> None:
    async with good_calls(*good, at_once=1), connected(stranger.address, stranger.context) as connection:
        for _ in range(20):
            for path in (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                f"/{secrets.token_hex(8)}/{secrets.token_hex(8)}",
            ):
                # As buf curl and grpcurl do: what they want to know comes in a stream that stays open.
                stream = await connection.open(grpc_head(path))
                await connection.send(stream, frame(b"x"))
                assert (await stream.end(within=2)).headers["grpc-status"] == "12"
