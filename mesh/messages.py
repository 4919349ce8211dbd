"""The sink that sends messages to people: straight to an SNS topic, never over the audit bus, because one-time codes are in them."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from mesh.outbox import Entry


class MessageSink:
    """Publishes each message to the topic, with its kind as an attribute that subscriptions can filter by."""

    kind = "message"
    batch = 10

    def __init__(self, open_sns: Callable[[], AbstractAsyncContextManager[Any]], topic_arn: str) -> None:
        """Args:
        open_sns: Opens a client of the `sns` API.
        topic_arn: The topic.
        """
        self._open = open_sns
        self._topic_arn = topic_arn

    def connect(self) -> AbstractAsyncContextManager[Any]:
        """A client, for as long as the relay runs."""
        return self._open()

    async def send(self, client: Any, entries: Sequence[Entry]) -> Collection[int]:
        """Publishes the messages."""
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
        return [int(item["Id"]) for item in answer.get("Successful", ())]
