"""The whole way of an event: row, relay, bus, queue, consumer, object."""

import asyncio
import json
from contextlib import suppress
from functools import partial

from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from google.protobuf import json_format

from mesh.aws import open_client
from mesh.outbox.relay import Relay
from mesh.outbox.sinks.events import EventBridgeSink
from mesh.outbox.work import Work
from tests.conftest import OpenDatabase
from tests.integration.services.audit.conftest import Aws, consuming, settings, until


async def test_what_a_service_wrote_down_is_in_the_bucket(aws: Aws, open_database: OpenDatabase) -> None:
    bus = aws.bucket
    attributes = await aws.sqs.get_queue_attributes(QueueUrl=aws.queue_url, AttributeNames=["QueueArn"])
    async with open_client("events", settings(aws.endpoint_url)) as events:
        await events.create_event_bus(Name=bus)
        await events.put_rule(Name=bus, EventBusName=bus, EventPattern=json.dumps({"source": [{"prefix": "authmesh"}]}))
        await events.put_targets(
            Rule=bus, EventBusName=bus, Targets=[{"Id": "queue", "Arn": attributes["Attributes"]["QueueArn"]}]
        )

    work = Work(await open_database("services.audit"), "audit")
    relay = Relay(work, [EventBridgeSink(partial(open_client, "events", settings(aws.endpoint_url)), bus)])
    relaying = asyncio.create_task(relay.run())
    try:
        async with consuming(aws.consumer()):
            for number in range(25):
                async with work.begin() as tx:
                    tx.record(AuditEvent(type="access.denied", reason="SCOPE_MISSING", detail={"method": f"{number}"}))

            async def arrived() -> bool:
                return len(await aws.stored()) == 25

            await until(arrived)
    finally:
        relaying.cancel()
        with suppress(asyncio.CancelledError):
            await relaying
    assert await aws.stored() == [("audit", number) for number in range(1, 26)]
    lines = [line for lines in (await aws.objects()).values() for line in lines]
    read = [json_format.ParseDict(line, AuditEvent()) for line in lines]
    assert {event.detail["method"] for event in read} == {f"{number}" for number in range(25)}
    assert all(event.event_id and event.HasField("event_time") for event in read)
