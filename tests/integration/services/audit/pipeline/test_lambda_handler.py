"""The Lambda form runs for real: the stack of functions in an emulator of its own, from the bus to the bucket and
from the topic to SES."""

import asyncio
import gzip
import json
import runpy
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent

from mesh import lambda_batch
from mesh.local.components import aws_emulator
from mesh.operator.aws_account import AwsAccount
from mesh.operator.state_dir import PROJECT
from mesh.outbox.sink import Entry
from mesh.outbox.sinks.events import EventBridgeSink
from services.audit.pipeline import lambda_handler
from tests.conftest import held
from tests.integration.services.audit.conftest import until
from tests.kit.envelopes import envelope, event
from tests.kit.lambda_events import Context, failures, record
from tests.kit.stacks import deploy

SENDER = "security@example.org"
PACKAGE = runpy.run_path(str(PROJECT / "deploy" / "aws" / "package.py"))
pack = PACKAGE["pack"]


@dataclass(frozen=True)
class Stack:
    """The stack with its functions."""

    account: AwsAccount
    outputs: dict[str, str]


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("functions")
    archive = pack(folder)
    async with held(
        aws_emulator.running(folder / "aws", services=(*aws_emulator.SERVICES, "lambda", "ses"))
    ) as emulator:
        account = emulator.account
        async with account.client("s3") as s3, account.client("sesv2") as ses:
            await s3.create_bucket(Bucket="functions")
            await s3.put_object(Bucket="functions", Key=archive.name, Body=archive.read_bytes())
            await ses.create_email_identity(EmailIdentity=SENDER)
        parameters = {"CodeBucket": "functions", "CodeKey": archive.name, "MailFrom": SENDER}
        made = (await deploy(account, "network", "events", "functions", parameters=parameters))["events"].found
        assert made is not None
        yield Stack(account, dict(made.outputs))


async def lines(s3: Any, bucket: str) -> list[dict[str, Any]]:
    found = []
    for item in (await s3.list_objects_v2(Bucket=bucket, Prefix="audit/")).get("Contents", []):
        body = await (await s3.get_object(Bucket=bucket, Key=item["Key"]))["Body"].read()
        found += [json.loads(line) for line in gzip.decompress(body).splitlines()]
    return found


def entry(number: int) -> Entry:
    event = AuditEvent(
        event_id=str(number),
        type="auth.signed_in",
        source="auth",
        sequence=number,
        previous_hash=bytes(32) if number > 1 else b"",
    )
    event.event_time.GetCurrentTime()
    return Entry(number, event.type, event.SerializeToString(), 0)


async def test_events_reach_the_bucket_and_poison_stays_behind_alone(stack: Stack) -> None:
    account, outputs = stack.account, stack.outputs
    async with account.client("events") as events, account.client("sqs") as sqs, account.client("s3") as s3:
        await sqs.send_message(QueueUrl=outputs["AuditQueueUrl"], MessageBody="no event")
        sink = EventBridgeSink(lambda: None, outputs["EventBusName"])  # type: ignore[arg-type,return-value]
        for start in range(1, 31, 10):
            delivery = await sink.send(events, [entry(number) for number in range(start, start + 10)])
            assert len(delivery.accepted) == 10

        async def stored() -> bool:
            return len(await lines(s3, outputs["AuditBucketName"])) >= 30

        await until(stored, 40)
        assert sorted(int(line["sequence"]) for line in await lines(s3, outputs["AuditBucketName"])) == list(
            range(1, 31)
        )

        async def waiting() -> int:
            names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
            answer = await sqs.get_queue_attributes(QueueUrl=outputs["AuditQueueUrl"], AttributeNames=names)
            return sum(int(answer["Attributes"][name]) for name in names)

        async def alone() -> bool:
            return await waiting() == 1

        await until(alone)


async def test_an_outage_of_s3_takes_no_good_message_to_the_dead_letters(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler itself, with messages of the real queue and a bucket that is away."""
    account, outputs = stack.account, stack.outputs
    for name, value in account.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AUDIT_BUCKET", "away")
    monkeypatch.setenv("AUDIT_SOURCES", "auth")
    monkeypatch.setenv("QUEUE_URL", outputs["AuditDeadLettersUrl"])
    lambda_batch.client.cache_clear()
    async with account.client("sqs") as sqs:
        # A queue that no function empties.
        await sqs.send_message(QueueUrl=outputs["AuditDeadLettersUrl"], MessageBody=envelope(event(1)))
        received = (await sqs.receive_message(QueueUrl=outputs["AuditDeadLettersUrl"], WaitTimeSeconds=5))["Messages"]
        records = [
            record(item["MessageId"], item["Body"], receipt=item["ReceiptHandle"], receive_count=5) for item in received
        ]
        answer = await asyncio.to_thread(lambda_handler.handler, {"Records": records}, Context(60))
        assert failures(answer) == {records[0]["messageId"]}
        # Half a minute, doubled each time: 200 attempts are two days.
        attributes = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        waiting = (await sqs.get_queue_attributes(QueueUrl=outputs["AuditDeadLettersUrl"], AttributeNames=attributes))[
            "Attributes"
        ]
        assert (waiting["ApproximateNumberOfMessages"], waiting["ApproximateNumberOfMessagesNotVisible"]) == ("0", "1")
    lambda_batch.client.cache_clear()


async def test_messages_to_people_become_letters(stack: Stack) -> None:
    account, outputs = stack.account, stack.outputs
    message = {
        "email": "ada@example.org",
        "kind": "verify_email",
        "code": "123456",
        "sent_time": "2026-03-04T05:06:07+00:00",
    }
    async with account.client("sns") as sns, account.client("ses") as ses, account.client("sqs") as sqs:
        attributes = {"kind": {"DataType": "String", "StringValue": "verify_email"}}
        await sns.publish(
            TopicArn=outputs["MessagesTopicArn"], Message=json.dumps(message), MessageAttributes=attributes
        )
        other = {"kind": {"DataType": "String", "StringValue": "a kind without a letter"}}
        await sns.publish(TopicArn=outputs["MessagesTopicArn"], Message=json.dumps(message), MessageAttributes=other)

        async def sent() -> bool:
            points = (await ses.get_send_statistics())["SendDataPoints"]
            return bool(sum(point["DeliveryAttempts"] for point in points) == 1)

        await until(sent, 30)
        url = (await sqs.get_queue_url(QueueName="authmesh-mail"))["QueueUrl"]

        async def empty() -> bool:
            names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
            answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
            return sum(int(answer["Attributes"][name]) for name in names) == 0

        await until(empty)
        await asyncio.sleep(0)
        assert await sent()


def test_the_archive_is_the_same_whenever_it_is_packed(tmp_path: Path) -> None:
    one, two = pack(tmp_path / "one"), pack(tmp_path / "two")
    # CloudFormation sees new code by its key, which is made of the content.
    assert one.name == two.name
    assert one.read_bytes() == two.read_bytes()


def test_an_archive_that_cannot_be_imported_is_not_called_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        pack.__globals__,
        "SOURCES",
        tuple(source for source in PACKAGE["SOURCES"] if source[1] != "mesh/lambda_batch.py"),
    )
    with pytest.raises(PACKAGE["PackageError"], match=r"No module named 'mesh\.lambda_batch'.*make functions"):
        pack(tmp_path)
    assert not list(tmp_path.iterdir())
