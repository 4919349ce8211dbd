"""A log has no value in it that somebody has sent: not in the lines of libraries, and not in an exception."""

import io
import json
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import botocore.exceptions
import httpx
import pytest
import structlog
from pydantic import BaseModel

from mesh.errors import Internal, Reason
from mesh.telemetry.logs import configure_logging, describe
from tests.kit.calls import LOOKUP, REQUEST, Directory, found, served, socket_path

SECRET = "amrt_hunter2"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def logged() -> Iterator[Lines]:
    """The lines of the process's log, parsed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("debug")
    # A cached logger would keep this configuration for the tests of the whole session.
    structlog.configure(cache_logger_on_first_use=False)
    written = io.StringIO()
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("template", "arguments", "event"),
    [
        ("Invalid encoding on %s", (SECRET,), "Invalid encoding on …"),
        ("%-20s of %(name)d%%", ({"name": 5},), "… of …%%"),
        (f"Exception calling application: {SECRET}", (), "Exception calling application…"),
        (f"Task exception was never retrieved\nfuture: <Task {SECRET}>", (), "Task exception was never retrieved…"),
        (f"Exception in callback Protocol.received({SECRET!r})", (), "Exception in callback…"),
        (SECRET, (), "…"),
        (f"password={SECRET}", (), "…"),
        (f'x"}}\n{{"event": "{SECRET}"}}', (), "…"),
    ],
)
def test_of_a_library_s_line_the_template_is_kept_and_the_rest_is_not(
    logged: Lines, template: str, arguments: Any, event: str
) -> None:
    logging.getLogger("grpc._cython").warning(template, *arguments)
    (line,) = logged()
    assert (line["logger"], line["level"], line["event"]) == ("grpc._cython", "warning", event)
    assert SECRET not in json.dumps(line)


def test_our_own_lines_say_what_they_are_given(logged: Lines) -> None:
    structlog.get_logger("authmesh.database").warning("out of reach", cause="TimeoutError")
    logging.getLogger("authmesh.other").warning("%s of %d", "one", 2)
    assert [(line["event"], line.get("cause")) for line in logged()] == [
        ("out of reach", "TimeoutError"),
        ("one of 2", None),
    ]


@pytest.mark.parametrize("logger", ["botocore.endpoint", "aiobotocore", "asyncio", "grpc"])
def test_libraries_are_silent_below_a_warning(logged: Lines, logger: str) -> None:
    logging.getLogger(logger).info("Sending: %s", SECRET)
    assert not logged()


async def test_a_header_that_is_no_text_is_not_printed_by_grpc(logged: Lines) -> None:
    """grpc logs what it can't decode, with its value and a traceback."""
    headers = [
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"cookie", f"name=André; {SECRET}".encode("latin-1")),
    ]
    with socket_path() as path:
        async with (
            served(path, Directory(found)),
            httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path, http1=False, http2=True)) as http,
        ):
            await http.post(
                f"http://localhost{LOOKUP}", headers=headers, content=struct.pack(">BI", 0, len(REQUEST)) + REQUEST
            )
    assert logged(), "grpc says nothing of it any more"
    for line in logged():
        assert (line["logger"].partition(".")[0], line["event"]) == ("grpc", "Invalid encoding on …")
        assert "UnicodeDecodeError" in line["exception"]
        assert SECRET not in json.dumps(line)


class Settings(BaseModel):
    number: int


def fault(call: Callable[[], object]) -> Exception:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError("no fault")


FAULTS: dict[str, Callable[[], object]] = {
    "a key": lambda: dict[str, str]()[SECRET],
    "a number": lambda: int(SECRET),
    "a model": lambda: Settings(number=SECRET),
    "a file": Path(f"/nowhere/{SECRET}").read_text,
    "a type": lambda: SECRET + 1,  # type: ignore[operator]
    "a parameter": lambda: _raise(botocore.exceptions.ParamValidationError(report=SECRET)),
    "a row": lambda: _raise(asyncpg.UniqueViolationError(f"Key (email)=({SECRET}) already exists")),
    "an argument": lambda: _raise(asyncpg.exceptions.DataError(f"invalid input for query argument $1: {SECRET!r}")),
    "a group": lambda: _raise(ExceptionGroup(SECRET, [ValueError(SECRET), ExceptionGroup(SECRET, [KeyError(SECRET)])])),
    "a cause": lambda: _raise_from(ValueError(SECRET), KeyError(SECRET)),
}


def _raise(error: Exception) -> None:
    raise error


def _raise_from(error: Exception, cause: Exception) -> None:
    raise error from cause


@pytest.mark.parametrize("provoke", FAULTS.values(), ids=FAULTS.keys())
def test_an_exception_is_its_type_and_place_and_not_its_words(logged: Lines, provoke: Callable[[], object]) -> None:
    error = fault(provoke)
    structlog.get_logger("authmesh.errors").error("fault", exc_info=error)
    logging.getLogger("asyncio").error("Exception in callback %s", SECRET, exc_info=error)
    assert len(logged()) == 2
    for line in logged():
        assert type(error).__name__ in line["exception"]
        assert "test_logs.py:" in line["exception"]
        assert SECRET not in json.dumps(line)


def test_of_our_own_exceptions_and_the_system_s_the_words_are_kept() -> None:
    assert (
        describe(Internal(Reason.INTERNAL, "a backend refused this service"))
        == "mesh.errors.Internal: a backend refused this service"
    )
    with socket.socket() as unbound, pytest.raises(OSError) as refused:
        unbound.connect(("127.0.0.1", 1))
    assert describe(refused.value).startswith("ConnectionRefusedError: Connection refused\n")


def test_an_exception_is_short_however_deep_it_goes() -> None:
    def deep(left: int) -> None:
        if left == 0:
            raise ValueError("x" * 100_000)
        try:
            deep(left - 1)
        except ValueError as error:
            raise ValueError("y" * 100_000) from error

    error: BaseException = fault(lambda: deep(200))
    wide = ExceptionGroup("z" * 100_000, [ExceptionGroup("z", [ValueError("z")] * 1000)] * 1000)
    looping = ValueError()
    looping.__cause__ = looping
    for one in (error, wide, looping):
        assert len(describe(one)) < 6000
    assert describe(error).splitlines()[0] == "ValueError"


def test_a_process_that_a_fault_ends_says_so_in_one_line_without_its_values() -> None:
    code = f"""
import asyncio
from mesh.rpc.server import run

async def main():
    secret = {SECRET!r}
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))
        int(secret)

run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 1
    assert SECRET not in done.stdout + done.stderr
    (line,) = (json.loads(line) for line in done.stdout.splitlines())
    assert (line["event"], line["level"]) == ("ended by a fault", "critical")
    assert "ValueError" in line["exception"]
