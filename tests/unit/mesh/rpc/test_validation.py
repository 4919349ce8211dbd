"""Requests are held against the rules of their proto before a handler sees them, and the answer names what to mend."""

import time
import uuid
from collections.abc import AsyncIterator
from unittest.mock import AsyncMock, Mock

import grpc
import pytest
from authmesh.resource.v1 import resource_service_pb2
from authmesh.token.v1 import token_issuer_pb2, token_set_pb2
from authmesh.user.v1 import user_directory_pb2
from google.protobuf import empty_pb2

from mesh.errors import InvalidArgument
from mesh.rpc.call import Call, Stage
from mesh.rpc.codec import Codecs
from mesh.rpc.errors import error_table, to_status
from mesh.rpc.validation import Validation
from tests.kit.calls import CHANGE, CONTRACT, CREATE, FOUND, WATCH, Changes, Directory, refusal, serving, stream, unary


async def never(_: object) -> object:
    raise AssertionError("the handler saw a request that breaks a rule")


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return [error_table, Validation()]


async def test_a_request_that_keeps_the_rules_passes(stages: list[Stage]) -> None:
    async def lookup(request: user_directory_pb2.LookupUserRequest) -> object:
        assert request.email == "ada@example.org"
        return FOUND

    async with serving(Directory(lookup), stages=stages) as channel:
        assert await unary(channel) == FOUND.SerializeToString()


async def test_every_field_at_fault_is_named_and_its_value_is_not(stages: list[Stage]) -> None:
    request = user_directory_pb2.CreateUserRequest(user_id="the-id", email="the-address", display_name="n" * 101)
    async with serving(Directory(never), stages=stages) as channel:
        refused = await refusal(unary(channel, CREATE, request.SerializeToString()))
    assert (refused.status, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert set(refused.violations) == {"user_id", "email", "display_name"}
    assert all(refused.violations.values())
    assert "the-" not in str(refused)


async def test_text_comes_to_the_handler_in_its_one_form(stages: list[Stage]) -> None:
    class Profiles(Directory):
        async def CreateUser(self, request: user_directory_pb2.CreateUserRequest, context: object) -> empty_pb2.Empty:
            assert request.display_name == "Zo\u00eb"
            return empty_pb2.Empty()

    request = user_directory_pb2.CreateUserRequest(
        user_id=str(uuid.uuid4()), email="zoe@example.org", display_name=" Zoe\u0308\n"
    )
    async with serving(Profiles(never), stages=stages) as channel:
        assert await unary(channel, CREATE, request.SerializeToString()) == b""


BOMBS = {
    "items": token_issuer_pb2.IssueTokensRequest(scopes=[""] * 300_000, amr=["\x1b"] * 300_000),
    "items of every kind": token_issuer_pb2.IssueTokensRequest(
        subject="x" * 400_000,
        client_id="\x1b" * 400_000,
        scopes=["\x1b"] * 300_000,
        amr=["\u202e" * 99] * 2000,
        device=token_set_pb2.Device(display_name="\0"),
    ),
    "long items": token_issuer_pb2.IssueTokensRequest(scopes=["\u0344" * 10_000] * 50),
    "one item too long": token_issuer_pb2.IssueTokensRequest(subject="x" * 3_000_000),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
async def test_no_request_takes_long_to_refuse_or_has_a_long_answer(bomb: token_issuer_pb2.IssueTokensRequest) -> None:
    rpc, context = (
        CONTRACT.rpcs["/authmesh.token.v1.TokenIssuer/IssueTokens"],
        Mock(**{"invocation_metadata.return_value": ()}),
    )
    handler = grpc.unary_unary_rpc_method_handler(
        Mock(), token_issuer_pb2.IssueTokensRequest.FromString, token_set_pb2.TokenSet.SerializeToString
    )
    call = Call(rpc, bomb.SerializeToString(), Codecs.of(handler), context)
    serve = Validation()(rpc, AsyncMock(side_effect=AssertionError))
    assert call.request
    taken = []
    for _ in range(3):
        started = time.thread_time()
        with pytest.raises(InvalidArgument) as refused:
            await serve(call)
        taken.append(time.thread_time() - started)
    # The best of them: the interpreter may collect its garbage in the middle.
    assert min(taken) < 0.1
    status = to_status(refused.value)
    assert status.ByteSize() < 2500
    assert 1 <= len(refused.value.violations) <= 5


async def test_streams_are_held_against_the_rules_too(stages: list[Stage]) -> None:
    async def watch() -> AsyncIterator[object]:
        for _ in range(0):
            yield CHANGE
        raise AssertionError

    request = resource_service_pb2.WatchResourcesRequest(resume_token="x" * 5000)
    async with serving(Changes(watch), stages=stages) as channel:
        refused = await refusal(stream(channel, WATCH, request.SerializeToString()).read())
    assert set(refused.violations) == {"resume_token"}


async def test_bytes_that_are_no_message_are_refused_before_any_rule(stages: list[Stage]) -> None:
    async with serving(Directory(never), stages=stages) as channel:
        assert (await refusal(unary(channel, request=b"\xff"))).violations.keys() == {"request"}
