"""One batch of an SQS queue in a Lambda function.

How long it may take, and what becomes of the messages that are not done.

Lambda counts a returned partial failure as a success, and a function that runs into its timeout gives back the whole
batch, done or not. So a handler takes messages only while there is time for one more, and every message that is not
done leaves by one of three ways:

- `retry`: something that it needs is unavailable. It comes back after a pause that grows with its receive count.
- `give_up`: it can never be done. It comes back at once until its receive count takes it to the dead letters.
- left over when time is short: it comes back at once, to an invocation with time.

Standard library and botocore only: Lambda brings botocore along.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from mesh.telemetry.embedded_metric import embedded

AWS_ERRORS = (BotoCoreError, ClientError)
CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 2, 3, 2
CALL_SECONDS = 11.0
"""The longest that a call of `client` takes: its attempts and the pause between them."""
RESERVE_SECONDS = CALL_SECONDS + 1.0
"""Kept at the end of an invocation for giving back what was not done."""
MESSAGES_PER_CALL = 10
LONGEST_PAUSE_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the queue."""

    id: str
    body: str
    receipt: str
    receive_count: int
    """1 when it comes for the first time."""
    sender: str
    """SQS's SenderId."""


class Batch:
    """The messages of an invocation."""

    def __init__(
        self, event: dict[str, Any], context: Any, *, metric: str, first_pause_seconds: int, longest_pause_seconds: int
    ) -> None:
        """Initializes the instance.

        Args:
            event: What Lambda's event source mapping sends.
            context: Lambda's context object.
            metric: Counts the messages that were not done, for the queue's alarm.
            first_pause_seconds: Before a message is tried the second time; doubled each time.
            longest_pause_seconds: At most 15 minutes.
        """
        self._records = [_message(record) for record in event["Records"]]
        self._context = context
        self._metric = metric
        self._first_pause = first_pause_seconds
        self._longest_pause = min(longest_pause_seconds, LONGEST_PAUSE_SECONDS)
        self._failed: dict[str, tuple[Message, int]] = {}
        self._causes: dict[str, int] = {}

    def seconds_left(self) -> float:
        """What the handler may still use of the invocation."""
        return float(self._context.get_remaining_time_in_millis()) / 1000 - RESERVE_SECONDS

    def messages(self, *, each_seconds: float) -> Iterator[Message]:
        """The messages, as long as there is time for one more. The others are left over.

        Args:
            each_seconds: The longest that one message takes.
        """
        for position, message in enumerate(self._records):
            if self.seconds_left() < each_seconds:
                for left in self._records[position:]:
                    self.leave(left)
                return
            yield message

    def retry(self, message: Message, cause: str) -> None:
        """Gives a message back for a later attempt."""
        pause = min(self._longest_pause, self._first_pause * 2 ** min(message.receive_count - 1, 16))
        self._fail(message, pause, cause)

    def give_up(self, message: Message, cause: str) -> None:
        """Sends a message on its way to the dead letters."""
        if message.receive_count == 1:
            log("left to the dead letters", message=message.id, cause=cause)
        self._fail(message, 0, cause)

    def leave(self, message: Message) -> None:
        """Gives a message back that this invocation has no time for."""
        self._fail(message, 0, "no time left")

    def end(self) -> dict[str, list[dict[str, str]]]:
        """Gives back what was not done, and returns Lambda's partial failures (`ReportBatchItemFailures`)."""
        if self._failed:
            self._hand_back()
        facts = embedded({self._metric: (len(self._failed), "Count")})
        log("batch", messages=len(self._records), failed=len(self._failed), causes=self._causes, **facts)
        return {"batchItemFailures": [{"itemIdentifier": number} for number in self._failed]}

    def _fail(self, message: Message, pause: int, cause: str) -> None:
        self._failed[message.id] = (message, pause)
        self._causes[cause] = self._causes.get(cause, 0) + 1

    def _hand_back(self) -> None:
        failed = list(self._failed.values())
        for start in range(0, len(failed), MESSAGES_PER_CALL):
            entries = [
                {"Id": str(number), "ReceiptHandle": message.receipt, "VisibilityTimeout": pause}
                for number, (message, pause) in enumerate(failed[start : start + MESSAGES_PER_CALL])
            ]
            try:
                client("sqs").change_message_visibility_batch(QueueUrl=os.environ["QUEUE_URL"], Entries=entries)
            except AWS_ERRORS as error:
                # They come back when the queue's own visibility ends.
                log("not handed back", error=error_code(error))
                return


@cache
def client(api: str, *, read_seconds: int = READ_SECONDS, attempts: int = ATTEMPTS) -> Any:
    """A client of an AWS API; with the defaults it answers, or fails, within `CALL_SECONDS`."""
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=read_seconds,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )
    # The endpoint is the emulator's in a local account, and unset in AWS.
    return get_session().create_client(api, endpoint_url=os.environ.get("AWS_ENDPOINT_URL"), config=config)


def error_code(error: Exception) -> str:
    """What an AWS error is called. Its text may hold data."""
    return (
        str(error.response.get("Error", {}).get("Code", "ClientError"))
        if isinstance(error, ClientError)
        else type(error).__name__
    )


def log(event: str, **facts: object) -> None:
    """Writes a line of JSON, as CloudWatch Logs searches it."""
    print(json.dumps({"event": event, **facts}))


def _message(record: dict[str, Any]) -> Message:
    attributes = record.get("attributes", {})
    return Message(
        id=record["messageId"],
        body=record["body"],
        receipt=record["receiptHandle"],
        receive_count=int(attributes.get("ApproximateReceiveCount", 1)),
        sender=attributes.get("SenderId", ""),
    )
