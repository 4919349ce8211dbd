"""Requests are held against the rules of their proto before a handler sees them, and the answer names what to mend."""

from collections.abc import AsyncIterator

import grpc
import pytest
from authmesh.resource.v1 import resource_service_pb2
from authmesh.user.v1 import user_directory_pb2

from mesh.rpc.errors import error_table
from mesh.rpc.interceptor import Stage
from mesh.rpc.validation import Validation
from tests.unit.mesh.rpc.kit import CHANGE, CREATE, FOUND, WATCH, Changes, Directory, refusal, serving, stream, unary


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
