"""Events from the queue to the bucket, through every interruption."""

import asyncio
import contextlib
import json
from contextlib import suppress

import pytest

from mesh.outbox.sinks.events import EventBridgeSink
from services.audit.pipeline import consumer as consumer_module
from tests.integration.services.audit.conftest import Aws, FaultingProxy, consuming, until
from tests.kit.envelopes import envelope, event


async def test_events_are_in_the_bucket_a_moment_after_they_are_in_the_queue(aws: Aws) -> None:
    async with consuming(aws.consumer()):
        loop = asyncio.get_running_loop()
        started = loop.time()
        await aws.send(event(1), event(2), event(1, source="token"))

        async def stored() -> bool:
            return len(await aws.stored()) == 3

        await until(stored)
        assert loop.time() - started < 2
        await until(aws.is_empty)
    assert sorted(key.rpartition("/")[0] for key in await aws.objects()) == [
        "audit/source=auth/dt=2026-11-24",
        "audit/source=token/dt=2026-11-24",
    ]


async def test_a_backlog_ends_in_few_objects_each_event_once(aws: Aws) -> None:
    await aws.send(*(event(number) for number in range(1, 301)))
    await aws.send(*(event(number) for number in range(1, 51)))
    async with consuming(aws.consumer()):
        await until(aws.is_empty)
    assert await aws.stored() == [("auth", number) for number in range(1, 301)]
    assert len(await aws.objects()) <= 3


async def test_a_repetition_that_comes_later_is_deleted_and_not_stored_again(aws: Aws) -> None:
    async with consuming(aws.consumer()):
        for _ in range(3):
            await aws.send(event(1))
            await until(aws.is_empty)
    assert await aws.stored() == [("auth", 1)]


async def test_a_forged_event_stands_beside_the_true_one(aws: Aws) -> None:
    async with consuming(aws.consumer()):
        for actor in ("users/ada", "users/eve"):
            await aws.send(event(1, actor=actor))
            await until(aws.is_empty)
    assert {line["actor"] for lines in (await aws.objects()).values() for line in lines} == {"users/ada", "users/eve"}


async def test_poison_goes_to_the_dead_letters_and_holds_up_nothing(aws: Aws) -> None:
    poison = ["no json", envelope(event(1), source="somebody.else"), json.dumps({"detail": {}})]
    poison += [envelope(event(1, source="payment")), envelope(event(2, previous_hash=b"short"))]
    poison += [envelope(event(2), detail=json.loads(envelope(event(2)))["detail"] | {"newMember": "x"})]
    await aws.send_bodies(*poison)
    async with consuming(aws.consumer()):
        await aws.send(event(1), event(2))

        async def stored() -> bool:
            return await aws.stored() == [("auth", 1), ("auth", 2)]

        await until(stored)

        async def buried() -> bool:
            return await aws.waiting(aws.dead_letters_url) == len(poison)

        await until(buried)
    assert await aws.is_empty()


async def test_what_was_not_put_into_the_queue_by_the_bus_is_left_to_the_dead_letters(aws: Aws) -> None:
    bus = aws.bucket
    attributes = await aws.sqs.get_queue_attributes(QueueUrl=aws.queue_url, AttributeNames=["QueueArn"])
    async with aws.client("events")() as events:
        await events.create_event_bus(Name=bus)
        await events.put_rule(Name=bus, EventBusName=bus, EventPattern=json.dumps({"source": ["authmesh.auth"]}))
        await events.put_targets(
            Rule=bus, EventBusName=bus, Targets=[{"Id": "queue", "Arn": attributes["Attributes"]["QueueArn"]}]
        )
        await aws.send(event(1, actor="users/eve"))
        await events.put_events(Entries=[EventBridgeSink(contextlib.nullcontext, bus)._entry(event(2))])
    # As the emulator names EventBridge; AWS has a name for it, too, and another one for each role.
    async with consuming(aws.consumer(senders=["AROAEXAMPLE"])):

        async def told_apart() -> bool:
            return await aws.stored() == [("auth", 2)] and await aws.waiting(aws.dead_letters_url) == 1

        await until(told_apart)


async def test_events_wait_for_an_s3_that_is_away_and_use_up_no_receive(aws: Aws, proxy: FaultingProxy) -> None:
    proxy.down = True
    await aws.send(event(1), event(2))
    async with consuming(aws.consumer(s3_endpoint=f"http://127.0.0.1:{proxy.port}")):

        async def tried_for_longer_than_the_visibility() -> bool:
            return proxy.refused >= 10

        await until(tried_for_longer_than_the_visibility)
        assert await aws.stored() == []
        assert await aws.waiting() == 2
        proxy.down = False
        await until(aws.is_empty)
    assert await aws.stored() == [("auth", 1), ("auth", 2)]
    assert await aws.waiting(aws.dead_letters_url) == 0


async def test_an_answer_that_got_lost_stores_nothing_twice(aws: Aws, proxy: FaultingProxy) -> None:
    await aws.send(event(1))
    proxy.cut_after_request = 3
    async with consuming(aws.consumer(s3_endpoint=f"http://127.0.0.1:{proxy.port}")):
        await until(aws.is_empty)
    assert await aws.stored() == [("auth", 1)]
    assert proxy.cut_after_request == 0


async def test_sqs_that_is_away_is_tried_again_until_it_is_back(aws: Aws, proxy: FaultingProxy) -> None:
    proxy.down = True
    async with consuming(aws.consumer(sqs_endpoint=f"http://127.0.0.1:{proxy.port}")) as task:

        async def tried() -> bool:
            return proxy.refused >= 3

        await until(tried)
        await aws.send(event(1))
        proxy.down = False
        await until(aws.is_empty)
        proxy.down = True
        proxy.break_connections()
        await aws.send(event(2))
        proxy.down = False
        await until(aws.is_empty)
        assert not task.done()
    assert await aws.stored() == [("auth", 1), ("auth", 2)]


async def test_a_deletion_that_failed_is_made_good_without_storing_again(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = aws.consumer()
    open_sqs = consumer._open_sqs
    calls = 0

    class Sqs:
        def __init__(self, client: object) -> None:
            self._client = client

        def __getattr__(self, name: str) -> object:
            return getattr(self._client, name)

        async def delete_message_batch(self, **arguments: object) -> dict[str, object]:
            nonlocal calls
            calls += 1
            if calls == 1:
                return {"Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": False}]}
            answer: dict[str, object] = await self._client.delete_message_batch(**arguments)  # type: ignore[attr-defined]
            return answer

    class Opened:
        def __init__(self) -> None:
            self._context = open_sqs()

        async def __aenter__(self) -> Sqs:
            return Sqs(await self._context.__aenter__())

        async def __aexit__(self, *error: object) -> None:
            await self._context.__aexit__(None, None, None)

    consumer._open_sqs = Opened
    await aws.send(event(1))
    async with consuming(consumer):
        await until(aws.is_empty)
    assert calls == 2
    assert await aws.stored() == [("auth", 1)]


async def test_two_consumers_store_every_event(aws: Aws) -> None:
    async with consuming(aws.consumer()), consuming(aws.consumer()):
        for start in range(1, 101, 20):
            await aws.send(*(event(number) for number in range(start, start + 20)))
        await until(aws.is_empty)
    assert sorted(set(await aws.stored())) == [("auth", number) for number in range(1, 101)]


async def test_a_consumer_that_is_told_to_stop_stores_what_it_holds(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "GATHER_SECONDS", 60)
    consumer = aws.consumer()
    await aws.send(event(1), event(2))
    task = asyncio.create_task(consumer.run())

    async def holds() -> bool:
        if not consumer._held:
            return False
        await aws.send(event(3))  # so that it goes on gathering
        return True

    await until(holds)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert {("auth", 1), ("auth", 2)} <= set(await aws.stored())


async def test_a_consumer_that_is_killed_loses_nothing(aws: Aws) -> None:
    await aws.send(*(event(number) for number in range(1, 31)))
    killed = aws.consumer()
    async with killed._open_sqs() as sqs:
        await killed._gather(sqs)
    assert killed._held
    async with consuming(aws.consumer()):
        await until(aws.is_empty)
    assert await aws.stored() == [("auth", number) for number in range(1, 31)]
