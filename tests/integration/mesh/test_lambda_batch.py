"""What a Lambda function did not do goes back to a real queue: at once, after a pause, or on its way to the dead
letters."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest

from mesh import lambda_batch
from mesh.aws import open_client
from mesh.lambda_batch import RESERVE_SECONDS, Batch
from mesh.local.components import aws_emulator
from mesh.operator.aws_account import REGION
from services.audit.settings import AuditSettings
from tests.kit.lambda_events import Context, failures, record

METRIC = "ThingsNotDone"


class Queue:
    """A queue as Lambda's event source mapping sees it."""

    def __init__(self, sqs: Any, url: str) -> None:
        self._sqs = sqs
        self._url = url

    async def send(self, *bodies: str) -> None:
        for body in bodies:
            await self._sqs.send_message(QueueUrl=self._url, MessageBody=body)

    async def event(self, wait: int = 2) -> dict[str, Any]:
        """What Lambda gives to the handler: all that can be received now."""
        records: list[dict[str, Any]] = []
        while messages := (
            await self._sqs.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=wait if not records else 0,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        ).get("Messages"):  # fmt: skip
            records += [
                record(
                    item["MessageId"],
                    item["Body"],
                    receipt=item["ReceiptHandle"],
                    receive_count=int(item["Attributes"]["ApproximateReceiveCount"]),
                )
                for item in messages
            ]
        return {"Records": records}


@pytest.fixture
async def queue(aws_server: aws_emulator.AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Queue]:
    async with AsyncExitStack() as stack:
        for name, value in aws_server.environment.items():
            monkeypatch.setenv(name, value)
        settings = AuditSettings.model_construct(aws_region=REGION, aws_endpoint_url=aws_server.endpoint_url)
        sqs = await stack.enter_async_context(open_client("sqs", settings))
        url = (await sqs.create_queue(QueueName=f"batch-{uuid4()}", Attributes={"VisibilityTimeout": "600"}))[
            "QueueUrl"
        ]
        monkeypatch.setenv("QUEUE_URL", url)
        lambda_batch.client.cache_clear()
        yield Queue(sqs, url)
        lambda_batch.client.cache_clear()


async def handled(event: dict[str, Any], seconds: float, body: Callable[[Batch], None]) -> dict[str, Any]:
    """The answer of a handler that does `body`. It is synchronous, as Lambda has it."""

    def handler() -> dict[str, Any]:
        batch = Batch(event, Context(seconds), metric=METRIC, first_pause_seconds=2, longest_pause_seconds=60)
        body(batch)
        return batch.end()

    return await asyncio.to_thread(handler)


def take_all(batch: Batch) -> None:
    for _ in batch.messages(each_seconds=1):
        pass


def retry_all(batch: Batch) -> None:
    for message in batch.messages(each_seconds=1):
        batch.retry(message, "S3 is away")


async def test_a_message_that_is_done_is_no_failure(queue: Queue) -> None:
    await queue.send("one")
    answer = await handled(await queue.event(), 60, take_all)
    assert answer == {"batchItemFailures": []}


async def test_what_there_is_no_time_for_comes_back_at_once(queue: Queue) -> None:
    await queue.send(*(str(number) for number in range(12)))
    event = await queue.event()
    assert len(event["Records"]) == 12
    taken: list[str] = []

    def body(batch: Batch) -> None:
        context: Any = batch._context
        for message in batch.messages(each_seconds=5):
            taken.append(message.id)
            context.seconds -= 4

    answer = await handled(event, RESERVE_SECONDS + 10, body)
    assert len(taken) == 2
    assert failures(answer) == {record["messageId"] for record in event["Records"]} - set(taken)
    again = await queue.event()
    assert {record["messageId"] for record in again["Records"]} == failures(answer)


async def test_a_later_attempt_waits_longer_each_time(queue: Queue) -> None:
    await queue.send("one")
    event = await queue.event()
    assert failures(await handled(event, 60, retry_all)) == {event["Records"][0]["messageId"]}
    assert (await queue.event(wait=0))["Records"] == []
    again = await queue.event(wait=5)
    assert again["Records"][0]["attributes"]["ApproximateReceiveCount"] == "2"
    await handled(again, 60, retry_all)
    assert (await queue.event(wait=2))["Records"] == []


async def test_what_can_never_be_done_is_on_its_way_to_the_dead_letters_at_once(
    queue: Queue, capsys: pytest.CaptureFixture[str]
) -> None:
    await queue.send("junk")

    def body(batch: Batch) -> None:
        for message in batch.messages(each_seconds=1):
            batch.give_up(message, "holds no event")

    for count in range(1, 4):
        event = await queue.event(wait=0)
        assert [record["attributes"]["ApproximateReceiveCount"] for record in event["Records"]] == [str(count)]
        await handled(event, 60, body)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    # Said once, counted each time.
    assert [line["event"] for line in lines].count("left to the dead letters") == 1
    assert [line[METRIC] for line in lines if line["event"] == "batch"] == [1, 1, 1]


async def test_when_the_queue_is_away_the_failures_are_returned_all_the_same(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.send("one")
    event = await queue.event()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    lambda_batch.client.cache_clear()
    answer = await handled(event, 60, retry_all)
    assert failures(answer) == {event["Records"][0]["messageId"]}
