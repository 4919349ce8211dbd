"""What the Token process does with one core: refresh, introspect, issue. On a PostgreSQL that commits to disk."""

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from authmesh.token.v1 import token_issuer_pb2, token_service_pb2, token_set_pb2
from grpc import aio

from mesh.local.components import postgres, valkey
from mesh.storage.migrations import migrate
from tests.bench.load import Borne, Call, bear
from tests.bench.report import Samples, Table
from tests.bench.rpc import bare_handler
from tests.kit.token_calls import by
from tests.kit.token_process import TokenProcess, running

LINES = 32
"""Clients that refresh at the same time, each its own line."""


@asynccontextmanager
async def servers() -> AsyncIterator[tuple[str, str]]:
    """A durable PostgreSQL with Token's schema and a Valkey: their addresses."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        database = await stack.enter_async_context(postgres.running(folder / "postgres", durable=True))
        cache = await stack.enter_async_context(valkey.running(folder / "valkey"))
        admin = await asyncpg.connect(database.admin_url)
        await admin.execute("CREATE DATABASE bench")
        await admin.close()
        url = database.admin_url.replace("/postgres?", "/bench?")
        await migrate(url, "services.token")
        yield url, cache.url


async def measure(seconds: float, rounds: int) -> Table:
    """What it does, and an empty call beside it, in turn."""
    async with (
        servers() as (database_url, redis_url),
        running(
            database_url, redis_url, LOG_LEVEL="warning", RATE_LIMIT_FACTOR="1000", MAX_CONCURRENT_CALLS="1000"
        ) as process,
        bare_handler() as (bare, bare_pid),
    ):
        admin = await _admin(process)
        lines = [_Line(process, await _sign_in(process)) for _ in range(LINES)]
        uncached = [await _sign_in(process) for _ in range(LINES)]
        kinds: dict[str, list[Call]] = {
            "refresh": [line.refresh for line in lines],
            "introspect": [_introspect(process, admin, issued.access_token) for issued in uncached],
            "introspect a refresh token": [_introspect(process, admin, issued.refresh_token) for issued in uncached],
            "issue (sign-in)": [lambda: _sign_in(process)] * LINES,
        }
        ways = {"bare grpc.aio": ([bare] * LINES, bare_pid)}
        ways |= {name: (calls, process.pid) for name, calls in kinds.items()}
        found: dict[str, list[Borne]] = {name: [] for name in ways}
        for calls, pid in ways.values():
            await bear(calls, seconds / 4, [pid])
        for _ in range(rounds):
            for name, (calls, pid) in ways.items():
                found[name].append(await bear(calls, seconds, [pid]))
    rows = [
        (
            name,
            Samples([one.per_core for one in borne]),
            Samples([one.microseconds for one in borne]),
            Samples(
                [
                    one.microseconds / least.microseconds
                    for one, least in zip(borne, found["bare grpc.aio"], strict=True)
                ]
            ),
            Samples([one.rate for one in borne]),
        )
        for name, borne in found.items()
    ]
    return Table("token", "The Token process on one core", ("", "a second and core", "CPU us each", "x bare",
    "a second by the clock"), rows, (
        (f"{LINES} in flight from one grpc.aio client over the process's unix socket; PostgreSQL "
        f"commits with fsync; ES256 with a local key."),
        ("Bare: an empty handler on grpc.aio without our interceptor, in a process beside it. x bare: CPU as a "
        "multiple of it, round by round."),
        ("A second and core: calls by CPU time of the process, its background tasks (outbox relay, "
        "feed, heartbeat) included and PostgreSQL's not."),
    ))  # fmt: skip


class _Line:
    """One client, which refreshes with what it got last."""

    def __init__(self, process: TokenProcess, tokens: token_set_pb2.TokenSet) -> None:
        self._process = process
        self._stub = process.tokens.RefreshToken
        self._tokens = tokens

    async def refresh(self) -> None:
        request = token_service_pb2.RefreshTokenRequest(refresh_token=self._tokens.refresh_token, client_id="demo")
        self._tokens = await self._stub(request, metadata=by("edge"))


async def _sign_in(process: TokenProcess, subject: uuid.UUID | None = None) -> token_set_pb2.TokenSet:
    request = token_issuer_pb2.IssueTokensRequest(
        subject=str(subject or uuid.uuid4()), client_id="demo", amr=["pwd"], address="192.0.2.7"
    )
    request.auth_time.GetCurrentTime()
    issued: token_set_pb2.TokenSet = await process.issuer.IssueTokens(request, metadata=by("auth"))
    return issued


async def _admin(process: TokenProcess) -> str:
    subject = uuid.uuid4()
    grants = token_issuer_pb2.SetSubjectGrantsRequest(subject=str(subject), roles=["admin"], version=1)
    await process.issuer.SetSubjectGrants(grants, metadata=by("user"))
    # The revocation of earlier tokens that goes with new roles is of this very second, and what is issued now is dated
    # behind it.
    await asyncio.sleep(2)
    return (await _sign_in(process, subject)).access_token


def _introspect(process: TokenProcess, admin: str, token: str) -> Call:
    request = token_service_pb2.IntrospectTokenRequest(token=token)
    stub: Any = process.tokens.IntrospectToken
    metadata: aio.Metadata = by("edge", admin)

    async def call() -> None:
        assert b'"active": true' in (await stub(request, metadata=metadata)).data

    return call
