"""`authmesh audit redrive`.

Moves dead letters back to the queue, when what kept their events from being stored is mended.

One by one, received, sent and then deleted: whatever breaks in between, a message is in at least one of the two queues.
That it may then be in both does no harm, the trail holds an event once. (StartMessageMoveTask of SQS would do it in AWS
only.)
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mesh.operator import terminal
from mesh.operator.errors import OperatorError
from mesh.operator.target import Target
from services.audit.pipeline.envelope import EnvelopeError, read

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient
    from types_aiobotocore_sqs.type_defs import MessageTypeDef

QUEUE = "authmesh-audit"
MESSAGES_PER_CALL = 10
VISIBILITY_SECONDS = 60
"""For how long a message that is being moved, or was left, is kept from another redrive."""
WAIT_SECONDS = 2


async def redrive(
    sqs: "SQSClient", *, dead_letters_url: str, queue_url: str, everything: bool = False
) -> tuple[int, int]:
    """Moves the messages that hold an event.

    Args:
        sqs: A client of the `sqs` API.
        dead_letters_url: Where they are.
        queue_url: Where they go.
        everything: Also those that hold no event that this release can read; they would come back.

    Returns:
        How many were moved, and how many were left.

    Raises:
        ClientError: SQS refuses. What was not moved is still there.
    """
    moved = left = 0
    async for messages in _received(sqs, dead_letters_url):
        wanted = [message for message in messages if everything or _holds_event(message)]
        left += len(messages) - len(wanted)
        if not wanted:
            continue
        sent = await sqs.send_message_batch(
            QueueUrl=queue_url,
            Entries=[{"Id": str(number), "MessageBody": message["Body"]} for number, message in enumerate(wanted)],
        )
        taken = [wanted[int(item["Id"])] for item in sent.get("Successful", [])]
        left += len(wanted) - len(taken)
        if taken:
            entries = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]} for number, message in enumerate(taken)
            ]
            await sqs.delete_message_batch(QueueUrl=dead_letters_url, Entries=entries)  # type: ignore[arg-type]
        moved += len(taken)
    return moved, left


async def _received(sqs: "SQSClient", url: str) -> AsyncIterator[Sequence["MessageTypeDef"]]:
    """What is in the queue now, each message once.

    What comes back meanwhile is left: a consumer that still refuses a message returns it at once, under another id.
    """
    seen: set[str] = set()
    began = time.time()
    while True:
        answer = await sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=MESSAGES_PER_CALL,
            WaitTimeSeconds=WAIT_SECONDS,
            VisibilityTimeout=VISIBILITY_SECONDS,
            MessageSystemAttributeNames=["SentTimestamp"],
        )
        fresh = [
            message
            for message in answer.get("Messages", [])
            # A message that became a dead letter keeps the time at which it was sent.
            if message["MessageId"] not in seen and int(message["Attributes"]["SentTimestamp"]) <= began * 1000
        ]
        if not fresh:
            return
        seen |= {message["MessageId"] for message in fresh}
        yield fresh


def _holds_event(message: "MessageTypeDef") -> bool:
    try:
        read(message["Body"])
    except EnvelopeError:
        return False
    return True


def command(
    queue_url: Annotated[
        str | None, typer.Option(envvar="AUDIT_QUEUE_URL", help="The audit queue; by default that of the local mesh.")
    ] = None,
    dead_letters_url: Annotated[
        str | None, typer.Option(help="Its dead letters; by default the queue of its name with -dlq behind it.")
    ] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(envvar="AWS_ENDPOINT_URL", help="Where the AWS APIs are, if not in AWS.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Also messages that hold no event that can be read.")
    ] = False,
) -> None:
    """Move dead letters back to the audit queue, when what kept them from being stored is mended."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        account = Target().aws(endpoint_url, named=queue_url is not None)
    except OperatorError as error:
        terminal.fail(f"{error}; or name a queue with --queue-url")

    async def work() -> tuple[int, int]:
        async with account.client("sqs") as sqs:
            url = queue_url or (await sqs.get_queue_url(QueueName=QUEUE))["QueueUrl"]
            return await redrive(
                sqs, dead_letters_url=dead_letters_url or f"{url}-dlq", queue_url=url, everything=everything
            )

    try:
        moved, left = asyncio.run(work())
    except (BotoCoreError, ClientError) as error:
        terminal.fail(f"dead letters can't be moved: {error}")
    terminal.line(f"{moved} moved back")
    if left:
        terminal.line(
            f"{left} left: they hold no event that can be stored, or SQS did not take them "
            f"(--everything moves the former all the same)"
        )
