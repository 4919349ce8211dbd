"""A service process, run as one: it becomes ready, drains on SIGTERM without losing a call, and ends when a part of it
died."""

import asyncio
import gzip
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from authmesh.user.v1 import user_directory_pb2_grpc
from grpc import aio
from grpc_health.v1 import health_pb2

from mesh.rpc.admission import MESSAGE_LIMIT
from mesh.rpc.server import serve
from mesh.settings import ProcessSettings
from tests.kit import server_process
from tests.kit.calls import (
    CHANGE,
    FOUND,
    AdmitAll,
    Directory,
    dialled,
    found,
    health,
    read,
    refusal,
    socket_path,
    stream,
    unary,
)
from tests.kit.raw_http2 import connected, frame, grpc_head

# grpc's published types don't have it yet.
HEALTH_LIST: Any = health_pb2.HealthListRequest  # type: ignore[attr-defined]
SERVICES = ("authmesh.user.v1.UserDirectory", "authmesh.resource.v1.ResourceService")
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass
class Running:
    """A server process and a channel to it."""

    process: asyncio.subprocess.Process
    directory: Path
    channel: aio.Channel

    def touch(self, name: str) -> None:
        (self.directory / name).touch()

    async def health(self, service: str = "") -> int | None:
        """The status, or None while nobody answers."""
        try:
            answer = await health(self.channel).Check(health_pb2.HealthCheckRequest(service=service))
        except aio.AioRpcError:
            return None
        return int(answer.status)

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not (await value if asyncio.iscoroutine(value := condition()) else value):
                await asyncio.sleep(0.01)

    async def healthy(self, status: int) -> None:
        async def reached() -> bool:
            return await self.health() == status

        await self.until(reached)

    async def arrived(self) -> None:
        await self.until((self.directory / "arrived").exists)

    async def ended(self) -> tuple[int, str]:
        """The exit status, and what the process printed."""
        output, _ = await asyncio.wait_for(self.process.communicate(), 10)
        return self.process.returncode or 0, output.decode()


@asynccontextmanager
async def running(**environment: str) -> AsyncIterator[Running]:
    with socket_path() as path:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            server_process.__name__,
            env={**os.environ, "SOCKET": path, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=Path(__file__).parents[4],
        )
        try:
            async with dialled(path) as channel:
                server = Running(process, Path(path).parent, channel)
                await server.healthy(SERVING)
                yield server
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_sigterm_drains_says_so_first_and_loses_no_call() -> None:
    async with running() as server:
        watch = health(server.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        call, watching = asyncio.ensure_future(unary(server.channel)), stream(server.channel, timeout=None)
        assert await watching.read() == CHANGE.SerializeToString()
        await server.arrived()
        ended = asyncio.ensure_future(refusal(watching.read()))

        server.process.send_signal(signal.SIGTERM)
        assert (await asyncio.wait_for(watch.read(), 5)).status == NOT_SERVING
        assert not ended.done(), "NOT_SERVING comes before anything ends"
        assert (await asyncio.wait_for(ended, 5)).status is grpc.StatusCode.UNAVAILABLE
        server.touch("finish")
        assert await call == FOUND.SerializeToString()
        status, output = await server.ended()
    assert status == 0
    assert "returned" in output
    assert "Traceback" not in output
    assert "never retrieved" not in output


async def test_a_drain_is_over_when_the_last_call_is_and_watchers_of_health_do_not_hold_it_up() -> None:
    async with running(DRAIN_SECONDS="30") as server:
        watch = health(server.channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            status, _ = await server.ended()
    assert status == 0


async def test_of_thousands_that_arrive_at_once_each_is_served_or_told_why_not() -> None:
    async with running() as server:
        calls = [asyncio.ensure_future(unary(server.channel, timeout=30)) for _ in range(3000)]
        await server.arrived()
        server.touch("finish")
        answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, aio.AioRpcError)]
    assert {read(answer).reason for answer in refused} <= {"OVERLOADED"}
    assert [answer for answer in answers if not isinstance(answer, aio.AioRpcError)]


async def test_a_call_that_outlives_the_drain_is_an_outage_for_its_client() -> None:
    async with running(DRAIN_SECONDS="0.1") as server:
        call = asyncio.ensure_future(unary(server.channel))
        await server.arrived()
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(aio.AioRpcError) as ended:
            await call
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        status, output = await server.ended()
    assert status == 0
    assert "background ended" in output


async def test_a_background_task_that_fails_ends_the_process_which_drains_first() -> None:
    async with running() as server:
        call = asyncio.ensure_future(unary(server.channel))
        await server.arrived()
        server.touch("break")
        await server.healthy(NOT_SERVING)
        server.touch("finish")
        assert await call == FOUND.SerializeToString()
        status, output = await server.ended()
    assert status == 1
    assert '"exception": "ExceptionGroup' in output
    assert "KeyError" in output
    assert "broken" not in output, "the words of an exception may be somebody's"


async def test_readiness_follows_the_checks_and_comes_back() -> None:
    async with running() as server:
        assert await server.health("authmesh.user.v1.UserDirectory") == SERVING
        assert await server.health("nobody.v1.Service") is None
        server.touch("unready")
        await server.healthy(NOT_SERVING)
        assert await server.health("authmesh.user.v1.UserDirectory") == NOT_SERVING
        assert (await server.health("file"), await server.health("other")) == (NOT_SERVING, SERVING)
        listed = {
            name: answer.status for name, answer in (await health(server.channel).List(HEALTH_LIST())).statuses.items()
        }
        assert listed == dict.fromkeys(("", *SERVICES, "file"), NOT_SERVING) | {"other": SERVING}
        (server.directory / "unready").unlink()
        await server.healthy(SERVING)


async def test_the_socket_is_the_users_alone_and_may_lie_there_from_a_killed_process() -> None:
    async with running() as server:
        socket = server.directory / "s"
        assert stat.S_IMODE(socket.stat().st_mode) & 0o077 == 0
        server.process.kill()
        await server.process.wait()
        assert socket.exists()
        again = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            server_process.__name__,
            env={**os.environ, "SOCKET": str(socket)},
            stdout=asyncio.subprocess.DEVNULL,
            cwd=Path(__file__).parents[4],
        )
        try:
            # A channel of its own: the first one has seen a dead server, and waits longer each time.
            async with dialled(str(socket)) as channel:
                await Running(again, server.directory, channel).healthy(SERVING)
        finally:
            again.kill()
            await again.wait()


async def test_every_line_of_the_process_is_json() -> None:
    async with running() as server:
        await refusal(unary(server.channel, request=b"\xff"))
        server.process.send_signal(signal.SIGTERM)
        _, output = await server.ended()
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    events = [line["event"] for line in lines]
    assert set(events[:2]) == {"serving", "ready"}
    # A client has its answer before the line about it is written.
    assert (set(events[2:4]), events[4:]) == ({"call", "draining"}, ["stopped"])
    assert len(lines) == len(output.splitlines()) - 2, "but for the two that the process itself prints"


async def reflected(environment: str) -> bool:
    async with running(ENVIRONMENT=environment) as server:
        try:
            await stream(server.channel, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo").read()
        except aio.AioRpcError as error:
            return error.code() is not grpc.StatusCode.UNIMPLEMENTED
        return True


async def test_reflection_is_for_development_only() -> None:
    assert not await reflected("production")
    assert await reflected("development")


async def test_a_message_above_the_limit_is_too_large_and_says_so() -> None:
    async with running() as server:
        refused = await refusal(unary(server.channel, request=b"\x0a" + b"x" * MESSAGE_LIMIT))
    assert (refused.status, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")


async def test_a_compressed_message_is_not_unpacked() -> None:
    packed = gzip.compress(bytes(MESSAGE_LIMIT))
    async with running() as server, connected(str(server.directory / "s")) as connection:
        head = grpc_head("/authmesh.user.v1.UserDirectory/LookupUser", ("grpc-encoding", "gzip"))
        answer = await (await connection.request(head, b"\1" + frame(packed)[1:])).end()
    assert answer.headers["grpc-status"] == str(grpc.StatusCode.UNIMPLEMENTED.value[0])


async def test_a_service_that_the_contract_does_not_have_is_refused_at_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    def add(servicer: object, server: aio.Server) -> None:
        user_directory_pb2_grpc.add_UserDirectoryServicer_to_server(Directory(found), server)
        server.add_registered_method_handlers("nobody.v1.Service", {})

    for name, value in {**server_process.SETTINGS, "SOCKET": "/nowhere/s"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="not in the contract: nobody"):
        await serve(ProcessSettings.load(), services=[(add, None)], authentication=AdmitAll())
