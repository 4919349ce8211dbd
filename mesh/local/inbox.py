"""The local inbox.

Messages that in AWS would leave as e-mail, taken from their queue into a file that `authmesh inbox` reads.
"""

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from mesh.operator.aws_account import AwsAccount
from mesh.operator.errors import explain

RETRY_PAUSE = 0.5
LONG_POLL = 10
"""Seconds that a receive waits for a message."""


class Message(BaseModel):
    """A message to a person."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    email: str
    kind: str
    code: str = ""
    sent_time: AwareDatetime


def append(file: Path, message: Message) -> None:
    """Adds a message to the inbox file: mode 0600, for codes are in it.

    Raises:
        OSError: it can't be written.
    """
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(message.model_dump_json() + "\n")


def read(file: Path, email: str | None = None) -> list[Message]:
    """The messages, newest last; only those to `email` if it is given.

    Raises:
        OperatorError: the file can't be read.
    """
    try:
        with file.open() as stream:
            return [
                message
                for message in _messages(stream)
                if email is None or message.email.casefold() == email.casefold()
            ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise explain(error, f"read {file}") from None


def _messages(lines: Iterator[str]) -> Iterator[Message]:
    for line in lines:
        try:
            yield Message.model_validate_json(line)
        except ValidationError:
            # Cut short by a full disk, or still being written.
            continue


async def collect(account: AwsAccount, queue_url: str, file: Path) -> None:
    """Moves messages from the queue to the file until cancelled. A queue that is out of reach is asked again.

    Raises:
        OperatorError: the file can't be written.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    while True:
        try:
            async with account.client("sqs") as sqs:
                while True:
                    await _move(sqs, queue_url, file)
        except (BotoCoreError, ClientError, TimeoutError, ConnectionError):
            await asyncio.sleep(RETRY_PAUSE)
        except OSError as error:
            raise explain(error, f"write {file}") from None


async def _move(sqs: Any, queue_url: str, file: Path) -> None:
    received = await sqs.receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=10,
        WaitTimeSeconds=LONG_POLL,
        MessageSystemAttributeNames=["SentTimestamp"],
    )
    messages = received.get("Messages", [])
    for message in messages:
        parsed = _parse(message["Body"], message.get("Attributes", {}).get("SentTimestamp"))
        if parsed is not None:
            append(file, parsed)
    if messages:
        await sqs.delete_message_batch(
            QueueUrl=queue_url,
            Entries=[
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(messages)
            ],
        )


def _parse(body: str, sent_milliseconds: str | None) -> Message | None:
    """A message as services send it, with the queue's time where it has none of its own.

    None for anything else.
    """
    from authmesh.mail.v1 import message_pb2
    from google.protobuf import json_format

    try:
        found = json_format.Parse(body, message_pb2.Message(), ignore_unknown_fields=True)
        moment = found.sent_time.ToDatetime(UTC) if found.HasField("sent_time") else None
    except (json_format.ParseError, ValueError, OverflowError, RecursionError):
        return None
    if not found.email or not found.kind:
        return None
    if moment is None:
        moment = datetime.fromtimestamp(int(sent_milliseconds) / 1000, UTC) if sent_milliseconds else datetime.now(UTC)
    return Message(email=found.email, kind=found.kind, code=found.code, sent_time=moment)
