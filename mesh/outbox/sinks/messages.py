"""The sink that sends messages to people.

Straight to an SNS topic, never over the audit bus, because one-time codes are in them.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Self

from mesh.aws import open_client
from mesh.outbox.sink import BatchResult, DeadLetter, Entry, Sink
from mesh.outbox.sinks.aws_errors import is_malformed, is_passing, is_throttling, send_apart
from mesh.settings import MessageSettings


class MessageSink(Sink):
    """Publishes each message to the topic, with its kind as an attribute that subscriptions can filter by."""

    kind = "message"
    batch = 10

    def __init__(self, open_sns: Callable[[], AbstractAsyncContextManager[Any]], topic_arn: str) -> None:
        """Initializes the instance.

        Args:
            open_sns: Opens a client of the `sns` API.
            topic_arn: The topic.
        """
        self._open = open_sns
        self._topic_arn = topic_arn

    @classmethod
    def of(cls, settings: MessageSettings) -> Self:
        """The sink of a service."""
        return cls(partial(open_client, "sns", settings), settings.messages_topic_arn)

    def connect(self) -> AbstractAsyncContextManager[Any]:
        """A client, for as long as the relay runs."""
        return self._open()

    async def send(self, client: Any, entries: Sequence[Entry]) -> BatchResult:
        """Publishes the messages."""
        from botocore.exceptions import ClientError

        try:
            answer = await client.publish_batch(
                TopicArn=self._topic_arn,
                PublishBatchRequestEntries=[
                    {
                        "Id": str(entry.id),
                        "Message": entry.payload.decode(),
                        "MessageAttributes": {"kind": {"DataType": "String", "StringValue": entry.destination}},
                    }
                    for entry in entries
                ],
            )
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if not is_malformed(code):
                raise
            if len(entries) == 1:
                return BatchResult(refused={entries[0].id: code})
            return await send_apart(entries, lambda alone: self.send(client, alone))
        failed = answer.get("Failed", ())
        return BatchResult(
            accepted=[int(item["Id"]) for item in answer.get("Successful", ())],
            refused={
                int(item["Id"]): item.get("Code", "")
                for item in failed
                if item.get("SenderFault") and not is_passing(item.get("Code", ""))
            },
            throttled=any(is_throttling(item.get("Code", "")) for item in failed),
        )

    def on_dead_letter(self, entry: Entry, reason: str) -> DeadLetter | None:
        """Keeps the kind of a message, and nothing of its content.

        Its code is stale by then, and its address is personal.
        """
        return DeadLetter(kept=b"")
