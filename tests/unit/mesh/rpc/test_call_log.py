"""One JSON line a call, with the ids to find it by, and nothing in it that is secret or somebody's."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from mesh.errors import NotFound, Reason, Unavailable
from mesh.rpc.call import Call, Stage
from mesh.rpc.call_log import circumstances, telemetry
from mesh.rpc.errors import error_table
from mesh.telemetry.logs import configure_logging
from tests.kit.calls import CHANGE, Changes, Directory, around, found, refusal, serving, stream, unary

STAGES: list[Stage] = [telemetry, error_table]


@pytest.fixture
def logged() -> Iterator[Any]:
    """The lines of the process's log, parsed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("debug", circumstances("user"))
    # A cached logger would keep this configuration for the tests of the whole session.
    structlog.configure(cache_logger_on_first_use=False)
    written = io.StringIO()
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in written.getvalue().splitlines()]

    yield lines
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_a_call_is_one_line_with_its_ids_and_its_end(logged: Any) -> None:
    async with serving(Directory(found), stages=STAGES) as channel:
        await unary(channel, metadata=[("x-request-id", "the-id")])
    (line,) = logged()
    assert line["event"] == "call"
    assert (line["rpc"], line["status"], line["request_id"], line["node"]) == (
        "/authmesh.user.v1.UserDirectory/LookupUser",
        "OK",
        "the-id",
        "user",
    )
    assert line["level"] == "debug"
    assert len(line["trace_id"]) == 32
    assert line["milliseconds"] >= 0


@pytest.mark.parametrize(
    ("error", "status", "level"),
    [
        (NotFound(Reason.USER_NOT_FOUND, "m"), "NOT_FOUND USER_NOT_FOUND", "info"),
        (Unavailable(Reason.KEYS_UNAVAILABLE, "m"), "UNAVAILABLE KEYS_UNAVAILABLE", "info"),
        (KeyError("m"), "INTERNAL INTERNAL", "error"),
    ],
    ids=lambda value: getattr(value, "reason", None) or type(value).__name__,
)
async def test_the_end_of_a_call_decides_how_loud_its_line_is(
    logged: Any, error: Exception, status: str, level: str
) -> None:
    async def lookup(_: object) -> object:
        raise error

    async with serving(Directory(lookup), stages=STAGES) as channel:
        await refusal(unary(channel))
    line = logged()[-1]
    assert (line["status"], line["level"]) == (status, level)


async def test_a_fault_is_logged_with_its_stack_on_one_line(logged: Any) -> None:
    async def lookup(_: object) -> object:
        raise KeyError("a\nb")

    async with serving(Directory(lookup), stages=STAGES) as channel:
        await refusal(unary(channel, metadata=[("x-request-id", "the-id")]))
    fault, call = logged()
    assert fault["event"] == "fault"
    assert "KeyError" in fault["exception"]
    assert fault["request_id"] == call["request_id"] == "the-id"


async def test_a_call_whose_client_left_is_cancelled(logged: Any) -> None:
    left = asyncio.Event()

    async def watch() -> Any:
        yield CHANGE
        await asyncio.Event().wait()

    @asynccontextmanager
    async def outermost(_: Call) -> AsyncIterator[None]:
        try:
            yield
        finally:
            left.set()

    async with serving(Changes(watch), stages=[around(outermost), *STAGES]) as channel:
        call = stream(channel)
        await call.read()
        call.cancel()
        await asyncio.wait_for(left.wait(), 2)
    assert [line["status"] for line in logged()] == ["CANCELLED"]


async def test_no_secret_of_a_call_is_in_the_log(logged: Any) -> None:
    async with serving(Directory(found), stages=STAGES) as channel:
        await unary(channel, metadata=[("authorization", "Bearer the-token"), ("cookie", "the-cookie")])
    assert not any(word in json.dumps(logged()) for word in ("the-token", "the-cookie", "ada@example.org"))
