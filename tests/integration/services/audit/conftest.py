"""Queue, dead letters and bucket of a test's own in the real emulator, and a faulting proxy in front of it."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent

from mesh.aws import open_client
from mesh.local.components import aws_emulator
from mesh.model.mesh import load_mesh
from mesh.operator.aws_account import REGION
from services.audit.pipeline.consumer import Consumer
from services.audit.pipeline.envelope import Intake, read
from services.audit.settings import AuditSettings
from services.audit.trail.objects import AuditObject, lay_out
from tests.kit.envelopes import envelope

VISIBILITY_SECONDS = 2


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """Waits until the condition holds."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


class FaultingProxy:
    """Forwards TCP to the emulator; while it is down it drops every connection, so that a client sees an API that is
    away."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.down = False
        self.refused = 0
        self.cut_after_request = 0
        """How many answers to swallow: the request gets through, and the client never learns."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FaultingProxy"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.break_connections()

    def break_connections(self) -> None:
        for writer in self._open:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            self.refused += 1
            writer.close()
            return
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        self._open |= {writer, upstream_writer}
        await asyncio.gather(
            self._pump(reader, upstream_writer, answers=False), self._pump(upstream_reader, writer, answers=True)
        )
        self._open -= {writer, upstream_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if answers and self.cut_after_request:
                    self.cut_after_request -= 1
                    break
                if self.down:
                    self.refused += 1
                    break
                writer.write(data)
                await writer.drain()
        writer.close()


@dataclass
class Aws:
    """One queue and one bucket, and what tests do with them."""

    sqs: Any
    s3: Any
    queue_url: str
    dead_letters_url: str
    bucket: str
    endpoint_url: str

    def client(self, service: str, endpoint_url: str = "") -> Callable[[], Any]:
        return partial(open_client, service, settings(endpoint_url or self.endpoint_url))

    def consumer(
        self,
        *,
        sqs_endpoint: str = "",
        s3_endpoint: str = "",
        senders: Sequence[str] = (),
        stored: Callable[[AuditObject], None] = lambda item: None,
    ) -> Consumer:
        intake = Intake(load_mesh().nodes, senders)
        sqs, s3 = self.client("sqs", sqs_endpoint), self.client("s3", s3_endpoint)
        return Consumer(sqs, s3, queue_url=self.queue_url, bucket=self.bucket, intake=intake, stored=stored)

    async def put(self, *events: AuditEvent) -> list[str]:
        """Stores events as the consumer does. Returns the keys."""
        objects = lay_out(read(envelope(event)) for event in events)
        for item in objects:
            await self.s3.put_object(Bucket=self.bucket, Key=item.key, Body=item.body)
        return [item.key for item in objects]

    async def send(self, *events: AuditEvent) -> None:
        await self.send_bodies(*(envelope(event) for event in events))

    async def send_bodies(self, *bodies: str) -> None:
        for start in range(0, len(bodies), 10):
            entries = [
                {"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies[start : start + 10])
            ]
            await self.sqs.send_message_batch(QueueUrl=self.queue_url, Entries=entries)

    async def objects(self) -> dict[str, list[dict[str, Any]]]:
        """The lines of every object, by key."""
        found: dict[str, list[dict[str, Any]]] = {}
        async for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            for item in page.get("Contents", []):
                answer = await self.s3.get_object(Bucket=self.bucket, Key=item["Key"])
                found[item["Key"]] = [
                    json.loads(line) for line in gzip.decompress(await answer["Body"].read()).splitlines()
                ]
        return found

    async def stored(self) -> list[tuple[str, int]]:
        """Source and number of every line in the bucket."""
        return sorted(
            (line["source"], int(line["sequence"])) for lines in (await self.objects()).values() for line in lines
        )

    async def waiting(self, queue_url: str = "") -> int:
        """Messages in the queue, those in somebody's hands included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = await self.sqs.get_queue_attributes(QueueUrl=queue_url or self.queue_url, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    async def is_empty(self) -> bool:
        return await self.waiting() == 0


def settings(endpoint_url: str) -> AuditSettings:
    return AuditSettings.model_construct(aws_region=REGION, aws_endpoint_url=endpoint_url)


@asynccontextmanager
async def consuming(consumer: Consumer) -> AsyncIterator[asyncio.Task[None]]:
    """A consumer that runs, and is cancelled as a server cancels it."""
    task = asyncio.create_task(consumer.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def aws_environment(aws_server: aws_emulator.AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    for name, value in aws_server.environment.items():
        monkeypatch.setenv(name, value)
    return aws_server.environment


@pytest.fixture
async def aws(
    aws_server: aws_emulator.AwsEmulator, aws_environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Aws]:
    monkeypatch.setattr("services.audit.pipeline.consumer.VISIBILITY_SECONDS", VISIBILITY_SECONDS)
    async with AsyncExitStack() as stack:
        sqs = await stack.enter_async_context(open_client("sqs", settings(aws_server.endpoint_url)))
        s3 = await stack.enter_async_context(open_client("s3", settings(aws_server.endpoint_url)))
        name = f"audit-{uuid4()}"
        dead_letters = (await sqs.create_queue(QueueName=f"{name}-dlq"))["QueueUrl"]
        attributes = await sqs.get_queue_attributes(QueueUrl=dead_letters, AttributeNames=["QueueArn"])
        redrive = {"deadLetterTargetArn": attributes["Attributes"]["QueueArn"], "maxReceiveCount": 3}
        queue = await sqs.create_queue(
            QueueName=name,
            Attributes={"VisibilityTimeout": str(VISIBILITY_SECONDS), "RedrivePolicy": json.dumps(redrive)},
        )
        await s3.create_bucket(Bucket=name)
        yield Aws(sqs, s3, queue["QueueUrl"], dead_letters, name, aws_server.endpoint_url)


@pytest.fixture
async def proxy(aws_server: aws_emulator.AwsEmulator) -> AsyncIterator[FaultingProxy]:
    async with FaultingProxy(aws_server.port).running() as running:
        yield running
