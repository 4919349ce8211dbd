"""Events and messages, all the way to the queues where their consumers find them."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from google.protobuf import json_format

from mesh.aws import open_client
from mesh.local.components.aws_emulator import AwsEmulator
from mesh.outbox.sink import BatchResult, Entry
from mesh.outbox.sinks.events import EventBridgeSink
from mesh.outbox.sinks.messages import MessageSink
from mesh.outbox.work import Work
from mesh.settings import AwsSettings
from mesh.storage.database import Database
from tests.kit.outbox import is_empty, relaying, until

OpenClient = Callable[[str], Awaitable[Any]]


@pytest.fixture
def settings(aws_server: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> AwsSettings:
    for name, value in {"AWS_REGION": "eu-central-1", **aws_server.environment}.items():
        monkeypatch.setenv(name, value)
    return AwsSettings.load()


@pytest.fixture
async def client(settings: AwsSettings) -> AsyncIterator[OpenClient]:
    async with AsyncExitStack() as stack:

        async def opened(service: str) -> Any:
            return await stack.enter_async_context(open_client(service, settings))

        yield opened


async def queue(sqs: Any, name: str) -> tuple[str, str]:
    """Address and ARN of a new queue."""
    url = (await sqs.create_queue(QueueName=name))["QueueUrl"]
    attributes = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return url, attributes["Attributes"]["QueueArn"]


async def received(sqs: Any, url: str, number: int) -> list[str]:
    bodies: list[str] = []
    for _ in range(20):
        answer = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        bodies += [message["Body"] for message in answer.get("Messages", ())]
        if len(bodies) >= number:
            break
    return bodies


async def test_events_come_through_the_bus_with_their_chain_intact(
    database: Database, settings: AwsSettings, client: OpenClient
) -> None:
    events, sqs = await client("events"), await client("sqs")
    await events.create_event_bus(Name="audit-test")
    url, arn = await queue(sqs, "audit-test")
    await events.put_rule(
        Name="all", EventBusName="audit-test", EventPattern=json.dumps({"source": [{"prefix": "authmesh."}]})
    )
    await events.put_targets(Rule="all", EventBusName="audit-test", Targets=[{"Id": "queue", "Arn": arn}])
    work = Work(database, "auth")
    async with relaying(work, EventBridgeSink(lambda: open_client("events", settings), "audit-test")):
        for number in range(12):
            async with work.begin() as tx:
                detail = {"left_out": str(number), "amr": "b"}
                tx.record(AuditEvent(type="auth.signed_in", subject="users/ada", detail=detail))
        await until(lambda: is_empty(database))
    envelopes = [json.loads(body) for body in await received(sqs, url, 12)]
    assert {(envelope["source"], envelope["detail-type"]) for envelope in envelopes} == {
        ("authmesh.auth", "auth.signed_in")
    }
    arrived = sorted(
        (json_format.ParseDict(envelope["detail"], AuditEvent()) for envelope in envelopes),
        key=lambda event: event.sequence,
    )
    assert [event.sequence for event in arrived] == list(range(1, 13))
    # The hash survives the journey through JSON: this is what lets a verifier recompute it from S3.
    from hashlib import sha256

    previous = b""
    for event in arrived:
        assert event.previous_hash == previous
        previous = sha256(event.SerializeToString(deterministic=True)).digest()


async def test_a_message_comes_to_the_topics_subscribers_with_its_kind(
    database: Database, settings: AwsSettings, client: OpenClient
) -> None:
    sns, sqs = await client("sns"), await client("sqs")
    topic = (await sns.create_topic(Name="messages-test"))["TopicArn"]
    url, arn = await queue(sqs, "messages-test")
    await sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    work = Work(database, "auth")
    async with relaying(work, MessageSink(lambda: open_client("sns", settings), topic)):
        async with work.begin() as tx:
            tx.message(email="ada@example.org", kind="verify_email", code="123456", display_name="Ada")
        await until(lambda: is_empty(database))
    (notification,) = (json.loads(body) for body in await received(sqs, url, 1))
    content = json.loads(notification["Message"])
    assert (content["email"], content["kind"], content["code"], content["display_name"]) == (
        "ada@example.org",
        "verify_email",
        "123456",
        "Ada",
    )
    assert notification["MessageAttributes"]["kind"]["Value"] == "verify_email"


async def test_a_topic_that_is_not_there_keeps_the_message(database: Database, settings: AwsSettings) -> None:
    work = Work(database, "auth")
    topic = "arn:aws:sns:us-east-1:000000000000:absent"
    async with relaying(work, MessageSink(lambda: open_client("sns", settings), topic)):
        async with work.begin() as tx:
            tx.message(email="ada@example.org", kind="verify_email")
        await until(lambda: tried(database))
    assert not await is_empty(database)


async def tried(database: Database) -> bool:
    return bool(await database.fetchval("SELECT count(*) FROM outbox WHERE attempts > 1"))


class Answer:
    """An AWS client with one answer: the emulator refuses no single entry of a batch."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self._answer = answer

    async def put_events(self, **_: Any) -> dict[str, Any]:
        return self._answer

    async def publish_batch(self, **_: Any) -> dict[str, Any]:
        return self._answer


def entries(*ids: int) -> list[Entry]:
    return [Entry(number, "auth.signed_in", b"", 0) for number in ids]


async def test_events_that_the_bus_refused_are_not_taken_for_accepted() -> None:
    sink: Any = EventBridgeSink(lambda: None, "bus")  # type: ignore[arg-type,return-value]
    refused = {"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"}
    client = Answer({"FailedEntryCount": 1, "Entries": [{"EventId": "1"}, refused, {"EventId": "3"}]})
    assert await sink.send(client, entries(7, 8, 9)) == BatchResult(accepted=[7, 9], throttled=True)


@pytest.mark.parametrize(("successful", "accepted"), [([{"Id": "8"}], [8]), ([], []), (None, [])])
async def test_messages_that_the_topic_refused_are_not_taken_for_accepted(
    successful: list[dict[str, str]] | None, accepted: list[int]
) -> None:
    sink: Any = MessageSink(lambda: None, "arn:aws:sns:::topic")  # type: ignore[arg-type,return-value]
    answer: dict[str, Any] = {"Failed": [{"Id": "7", "Code": "InternalError"}]}
    if successful is not None:
        answer["Successful"] = successful
    assert await sink.send(Answer(answer), entries(7, 8)) == BatchResult(accepted=accepted)
