"""A call whose messages are JSON is served like any other; what can't be read is refused, and nothing of it
repeated."""

import json
from typing import Any

import grpc
import pytest
from authmesh.user.v1 import user_directory_pb2

from mesh.rpc.errors import error_table
from mesh.rpc.validation import Validation
from tests.kit.calls import CHANGE, LOOKUP, WATCH, Changes, Directory, refusal, serving, unary

JSON = [("x-authmesh-codec", "json")]


async def lookup(request: user_directory_pb2.LookupUserRequest) -> user_directory_pb2.LookupUserResponse:
    return user_directory_pb2.LookupUserResponse(user_id=f"user of {request.email}")


async def test_messages_are_read_and_written_as_json() -> None:
    async with serving(Directory(lookup)) as channel:
        for body in (b'{"email": "\xc3\xa9@example.org"}', b'{"email":"\\u00e9@example.org","unknown":{"a":[1]}}'):
            answer = await unary(channel, LOOKUP, body, JSON)
            assert json.loads(answer) == {"userId": "user of é@example.org"}
        # Without the mark, and with another one, they are protobuf.
        message = user_directory_pb2.LookupUserRequest(email="a@example.org").SerializeToString()
        for marks in ([], [("x-authmesh-codec", "proto")]):
            assert b"user of a@example.org" in await unary(channel, LOOKUP, message, marks)


async def test_a_stream_is_written_as_json() -> None:
    async def watch() -> Any:
        yield CHANGE
        yield CHANGE

    async with serving(Changes(watch)) as channel:
        call: Any = channel.unary_stream(WATCH, request_serializer=bytes, response_deserializer=bytes)
        assert [json.loads(message) async for message in call(b"{}", metadata=JSON)] == [{"resumeToken": "1"}] * 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b'{"email": 5}',
        b'{"email": "secret',
        b"\xff\xfe",
        b'{"email": "\xff"}',
        b"[" * 100_000,
        b'{"email":' * 50_000,
        b"1" * 10_000,
    ],
    ids=lambda body: repr(body[:12]),
)
async def test_json_that_can_t_be_read_is_refused_and_not_repeated(body: bytes) -> None:
    async with serving(Directory(lookup), stages=[error_table, Validation()]) as channel:
        refused = await refusal(unary(channel, LOOKUP, body, JSON))
    assert (refused.status, refused.reason, list(refused.violations)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "FIELD_INVALID",
        ["request"],
    )
    assert "secret" not in refused.message


async def test_the_rules_of_fields_hold_for_json() -> None:
    async with serving(Directory(lookup), stages=[error_table, Validation()]) as channel:
        refused = await refusal(unary(channel, LOOKUP, b'{"email": "x"}', JSON))
    assert list(refused.violations) == ["email"]
