"""What auditing costs and how fast it is: `python -m tests.bench.audit`.

CPU is that of the Python process that does the work; PostgreSQL and the emulator have their own. Latencies are
quantiles of single events, from the return of the commit to the moment when the object is in S3.
"""

import asyncio
import gzip
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import asyncpg
from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from authmesh.resource.v1.resource_service_pb2 import CreateResourceRequest, Resource
from authmesh.resource.v1.resource_service_pb2_grpc import ResourceServiceStub, add_ResourceServiceServicer_to_server
from grpc import aio

from mesh.contract import Contract
from mesh.ids import uuid7
from mesh.local import event_stack
from mesh.local.components import aws_emulator, postgres
from mesh.outbox.relay import Relay
from mesh.outbox.sinks.events import EventBridgeSink
from mesh.outbox.work import UnitOfWork, Work
from mesh.rpc.admission import Admission
from mesh.rpc.channel import open_channel
from mesh.rpc.errors import error_table
from mesh.rpc.interceptor import MeshInterceptor
from mesh.rpc.validation import Validation
from mesh.storage.database import Database
from mesh.storage.migrations import migrate
from mesh.tokens.denials import Denials
from services.audit.pipeline.consumer import Consumer
from services.audit.pipeline.envelope import Intake
from services.audit.trail.objects import AuditObject
from services.resource.authorizer import Authorizer
from services.resource.change_log import ChangeLog
from services.resource.resources import Resources
from services.resource.service import ResourceService
from tests.bench.report import FOLDER, Table
from tests.kit.serving import TrustedCaller

BACKLOGS = (1_000, 10_000, 100_000)
CALLS = 1_500
CALLERS = 16
LATENCY_EVENTS = 300
LATENCY_PER_SECOND = 20

EVENT = AuditEvent(
    type="resource.created",
    subject=f"users/{uuid7()}",
    actor=f"users/{uuid7()}",
    client="clients/demo",
    address="192.0.2.7",
)


class EveryEventTaken:
    """A bus that takes everything at once: what is left is our own work."""

    async def put_events(self, *, Entries: Sequence[Any]) -> dict[str, Any]:  # noqa: N803
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "e"} for _ in Entries]}


class Silent(Work):
    """Units of work that write no events: what an RPC would cost without auditing."""

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[UnitOfWork]:
        async with super().begin() as tx:
            tx.record = lambda event: None  # type: ignore[method-assign]
            yield tx


@asynccontextmanager
async def taking() -> AsyncIterator[EveryEventTaken]:
    yield EveryEventTaken()


@asynccontextmanager
async def running(task: Any) -> AsyncIterator[None]:
    """Background work for the length of a block."""
    working = asyncio.create_task(task)
    try:
        yield
    finally:
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


async def new_database(stack: AsyncExitStack, server: postgres.Postgres, package: str) -> Database:
    """A database with the schema of a service."""
    name = f"bench_{os.urandom(4).hex()}"
    admin = await asyncpg.connect(server.admin_url)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    url = server.admin_url.replace("/postgres?", f"/{name}?")
    await migrate(url, package)
    return await stack.enter_async_context(Database.open(url))


async def drain(db: Database, size: int) -> tuple[float, float]:
    """Seconds, and CPU seconds, in which a relay numbers, chains and sends a backlog."""
    work = Work(db, "resource")
    payload = work.outbox.event(EVENT).SerializeToString(deterministic=True)
    for start in range(0, size, 10_000):
        statement = (
            "INSERT INTO outbox (kind, destination, payload) SELECT 'audit', $1, $2 FROM generate_series(1, $3::int)"
        )
        await db.execute(statement, EVENT.type, payload, min(10_000, size - start))
    began, cpu = time.perf_counter(), time.process_time()
    async with running(Relay(work, [EventBridgeSink(taking, "bus")]).run()):
        while await db.fetchval("SELECT EXISTS (SELECT FROM outbox)"):
            await asyncio.sleep(0.1)
        return time.perf_counter() - began, time.process_time() - cpu


async def rpc_cpu(work: Work) -> float:
    """CPU seconds of the service's process for one CreateResource, without a relay. The callers are a process of their
    own."""
    changes = ChangeLog(work.database)
    resources = Resources(work, changes, Authorizer(work, Denials(work)), quota=10**6, new_id=uuid7)
    service = ResourceService(resources, cast(Any, None), cast(Any, None))
    server = aio.server(
        interceptors=[MeshInterceptor(Contract.load(), [error_table, Admission(200), TrustedCaller(), Validation()])]
    )
    add_ResourceServiceServicer_to_server(service, server)
    with tempfile.TemporaryDirectory() as directory:
        server.add_insecure_port(f"unix:{directory}/socket")
        await server.start()
        await called(f"{directory}/socket", 200)
        cpu = time.process_time()
        await called(f"{directory}/socket", CALLS)
        spent = time.process_time() - cpu
        await server.stop(0)
    return spent / CALLS


async def called(socket: str, calls: int) -> None:
    """Has another process call."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.bench.audit", socket, str(calls))
    if await process.wait():
        raise RuntimeError("the callers failed")


async def call(socket: str, calls: int) -> None:
    """The other process."""
    async with open_channel(socket) as channel:
        stub, left = ResourceServiceStub(channel), iter(range(calls))

        async def caller() -> None:
            for _ in left:
                await stub.CreateResource(CreateResourceRequest(resource=Resource(display_name="plan", content="a")))

        await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def latencies(stack: AsyncExitStack, db: Database, directory: Path) -> list[float]:
    """Seconds from commit to S3 of single events, through the stack that `make run-mesh` uses."""
    emulator = await stack.enter_async_context(aws_emulator.running(directory))
    os.environ |= emulator.environment
    account = emulator.account
    events, _ = await event_stack.ensure(account)
    committed: dict[str, float] = {}
    arrived: dict[str, float] = {}

    def stored(item: AuditObject) -> None:
        now = time.perf_counter()
        for line in gzip.decompress(item.body).splitlines():
            arrived.setdefault(json.loads(line)["detail"]["left_out"], now)

    work = Work(db, "resource")
    relay = Relay(work, [EventBridgeSink(partial(account.client, "events"), events.event_bus)])
    consumer = Consumer(
        partial(account.client, "sqs"),
        partial(account.client, "s3"),
        queue_url=events.audit_queue_url,
        bucket=events.audit_bucket,
        intake=Intake(["resource"]),
        stored=stored,
    )
    async with running(relay.run()), running(consumer.run()):
        for number in range(LATENCY_EVENTS):
            async with work.begin() as tx:
                tx.record(AuditEvent(type="resource.created", detail={"left_out": str(number)}))
            committed[str(number)] = time.perf_counter()
            await asyncio.sleep(1 / LATENCY_PER_SECOND)
        async with asyncio.timeout(60):
            while len(arrived) < LATENCY_EVENTS:
                await asyncio.sleep(0.1)
    return sorted(arrived[number] - at for number, at in committed.items())


async def measure(seconds: float, rounds: int) -> Table:
    """All of it, some two minutes: it goes by events, not by seconds."""
    rows: list[tuple[str, str]] = []
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(postgres.running(directory / "postgres"))
        db = await new_database(stack, server, "services.resource")
        per_event = 0.0
        for size in BACKLOGS:
            took, cpu = await drain(db, size)
            per_event = cpu / size
            rows.append(
                (
                    f"backlog of {size:,} drained",
                    f"{took:.1f} s: {size / took:,.0f} events/s; {size / cpu:,.0f} events/s per core",
                )
            )
        pairs = [(await rpc_cpu(Work(db, "resource")), await rpc_cpu(Silent(db, "resource"))) for _ in range(rounds)]
        await db.execute("DELETE FROM outbox")
        audited, silent = (statistics.median(column) for column in zip(*pairs, strict=True))
        rows.append(
            ("CreateResource, CPU of its process", f"{audited * 1e6:.0f} us; without its event {silent * 1e6:.0f} us")
        )
        rows.append(("writing the event, of that", f"{(audited - silent) / audited:.1%} (goal: at most 10 %)"))
        rows.append(("relaying the event, beside it", f"{per_event * 1e6:.0f} us: {per_event / audited:.1%}"))
        waits = await latencies(stack, await new_database(stack, server, "services.resource"), directory / "aws")
        p50, p99, worst = (
            1e3 * value for value in (statistics.median(waits), waits[int(len(waits) * 0.99) - 1], waits[-1])
        )
        rows.append(
            (
                f"commit to S3 at {LATENCY_PER_SECOND} events/s",
                f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, worst {worst:.0f} ms",
            )
        )
    return Table("audit", "What auditing costs, and how fast it is", ("Measured", "Value"), rows)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        asyncio.run(call(sys.argv[1], int(sys.argv[2])))
    else:
        print(asyncio.run(measure(0, 3)).write(FOLDER, 0))
