"""Lambda as a handler sees it: a context that has so much time left, and the records of an event source mapping."""

from typing import Any


class Context:
    """Lambda's context object, with as much time as a test says."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


def record(number: str, body: str, *, receive_count: int = 1, receipt: str = "") -> dict[str, Any]:
    """A message of the queue."""
    attributes = {"ApproximateReceiveCount": str(receive_count), "SenderId": "AIDAEXAMPLE"}
    return {
        "messageId": number,
        "body": body,
        "receiptHandle": receipt or f"receipt-{number}",
        "attributes": attributes,
    }


def failures(answer: dict[str, Any]) -> set[str]:
    """The ids of the messages that come again."""
    return {item["itemIdentifier"] for item in answer["batchItemFailures"]}
