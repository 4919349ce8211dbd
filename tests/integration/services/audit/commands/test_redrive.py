"""Dead letters go back when they hold an event, whatever breaks in between."""

import asyncio
import time
from typing import Any

import pytest
import typer
from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from typer.testing import CliRunner

from services.audit.commands import redrive
from tests.integration.services.audit.conftest import Aws, consuming, until
from tests.kit.envelopes import envelope, event

app = typer.Typer()
app.command()(redrive.command)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redrive, "WAIT_SECONDS", 0)


async def dead(aws: Aws, *bodies: str) -> None:
    for body in bodies:
        await aws.sqs.send_message(QueueUrl=aws.dead_letters_url, MessageBody=body)


def numbered(*numbers: int) -> list[AuditEvent]:
    return [event(sequence=number) for number in numbers]


async def moved(aws: Aws, sqs: Any = None, **options: Any) -> tuple[int, int]:
    return await redrive.redrive(
        sqs or aws.sqs, dead_letters_url=aws.dead_letters_url, queue_url=aws.queue_url, **options
    )


async def test_events_go_back_and_are_stored(aws: Aws) -> None:
    await dead(aws, *(envelope(item) for item in numbered(*range(1, 26))), "poison")
    assert await moved(aws) == (25, 1)
    async with consuming(aws.consumer()):

        async def stored() -> bool:
            return len(await aws.stored()) == 25

        await until(stored)
    assert await aws.waiting(aws.dead_letters_url) == 1


async def test_poison_goes_back_only_if_it_is_asked_for(aws: Aws) -> None:
    await dead(aws, "poison")
    assert await moved(aws, everything=True) == (1, 0)
    assert (await aws.waiting(), await aws.waiting(aws.dead_letters_url)) == (1, 0)


async def test_what_a_consumer_sends_back_at_once_is_moved_once(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    async def send_back() -> None:
        while True:
            answer = await aws.sqs.receive_message(QueueUrl=aws.queue_url, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                await aws.sqs.delete_message(QueueUrl=aws.queue_url, ReceiptHandle=message["ReceiptHandle"])
                await dead(aws, message["Body"])

    await dead(aws, "poison")
    refusing = asyncio.create_task(send_back())
    try:
        # As long as it takes the consumer to refuse.
        monkeypatch.setattr(redrive, "WAIT_SECONDS", 2)
        async with asyncio.timeout(30):
            assert await moved(aws, everything=True) == (1, 0)
    finally:
        refusing.cancel()


async def test_nothing_is_lost_when_it_breaks_off_between_sending_and_deleting(aws: Aws) -> None:
    class Breaking:
        def __getattr__(self, name: str) -> Any:
            return getattr(aws.sqs, name)

        async def delete_message_batch(self, **_: Any) -> Any:
            raise ConnectionError

    await dead(aws, envelope(numbered(1)[0]))
    with pytest.raises(ConnectionError):
        await moved(aws, Breaking())
    assert (await aws.waiting(), await aws.waiting(aws.dead_letters_url)) == (1, 1)


async def test_the_command_says_what_it_did(aws: Aws) -> None:
    await dead(aws, envelope(numbered(1)[0]), "poison")
    arguments = [
        "--queue-url",
        aws.queue_url,
        "--dead-letters-url",
        aws.dead_letters_url,
        "--endpoint-url",
        aws.endpoint_url,
    ]
    started = time.monotonic()
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0] == "1 moved back"
    assert result.output.splitlines()[1].startswith("1 left")
    assert time.monotonic() - started < 10


async def test_the_command_fails_with_one_line_where_there_is_nothing(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("AUTHMESH_HOME", str(tmp_path))
    for variable in ("AUDIT_QUEUE_URL", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(variable, raising=False)
    none = await asyncio.to_thread(CliRunner().invoke, app, [])
    assert (none.exit_code, len(none.output.splitlines())) == (1, 1)
    absent = await asyncio.to_thread(
        CliRunner().invoke, app, ["--queue-url", aws.queue_url + "absent", "--endpoint-url", aws.endpoint_url]
    )
    assert (absent.exit_code, len(absent.output.splitlines())) == (1, 1)
