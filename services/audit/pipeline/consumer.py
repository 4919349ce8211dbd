"""The consumer: events from SQS to S3. A message is deleted when its event is in S3, and not before.

A message whose event is not taken stays in the queue until its receive count takes it to the dead letters; it holds up
nothing. While S3 is unavailable the consumer keeps its messages and asks SQS for more time: an outage must not use
up the receive counts of good messages. The process is ready all the while: nothing that calls it depends on AWS.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from cachetools import LRUCache

from mesh.runtime.backoff import Backoff
from mesh.runtime.part import Part
from mesh.telemetry.embedded_metric import embedded
from services.audit.pipeline.envelope import EnvelopeError, Intake, Record
from services.audit.pipeline.metrics import NOT_STORED
from services.audit.trail.objects import AuditObject, lay_out

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sqs import SQSClient
    from types_aiobotocore_sqs.type_defs import MessageTypeDef

WAIT_SECONDS = 20
"""Of a long poll: the longest that SQS has."""
GATHER_SECONDS = 1.0
"""How long events are gathered for bigger objects while the queue has more."""
GATHERED_EVENTS = 1_000
GATHERED_BYTES = 8 * 1024 * 1024
MESSAGES_PER_CALL = 10
"""The most that SQS takes or gives at once."""
LANES = 4
"""Receives side by side while the queue is full."""
STORE_SECONDS = 45.0
"""The longest that one attempt to store what is held may take."""
VISIBILITY_SECONDS = 70
"""For how long messages are kept from other consumers, from their receipt and again from each failure: longer than the
longest pause and an attempt, or an outage would use up the receive counts of good messages."""
DRAIN_SECONDS = 5.0
"""How long storing may take when the process ends; what isn't stored then comes again."""
BACKOFF_SECONDS = (0.2, 20.0)
"""First and longest pause after AWS failed."""
REMEMBERED_EVENTS = 10_000
"""Stored events that are remembered, so that one delivered again is not stored again."""

_AWS_ERRORS = (BotoCoreError, ClientError, OSError, TimeoutError)

_log = structlog.get_logger("authmesh.audit")


@dataclass(frozen=True, slots=True)
class _Held:
    """A message that was received and not deleted yet."""

    receipt: str
    record: Record


class Consumer(Part):
    """Moves events until it is cancelled. Any number of replicas may run."""

    name = "consumer"

    def __init__(
        self,
        open_sqs: Callable[[], AbstractAsyncContextManager[Any]],
        open_s3: Callable[[], AbstractAsyncContextManager[Any]],
        *,
        queue_url: str,
        bucket: str,
        intake: Intake,
        stored: Callable[[AuditObject], None] = lambda item: None,
    ) -> None:
        """Initializes the instance.

        Args:
            open_sqs: Opens a client of the `sqs` API.
            open_s3: Opens a client of the `s3` API.
            queue_url: The queue that the bus fills.
            bucket: The bucket of the trail.
            intake: Whose events are taken.
            stored: Told of every object that is in the bucket now.
        """
        self._tell_stored = stored
        self._open_sqs = open_sqs
        self._open_s3 = open_s3
        self._queue_url = queue_url
        self._bucket = bucket
        self._intake = intake
        self._held: list[_Held] = []
        self._stored: LRUCache[tuple[str, int, bytes], None] = LRUCache(REMEMBERED_EVENTS)
        self._backoff = Backoff(*BACKOFF_SECONDS)

    async def run(self) -> None:
        """Consumes until it is cancelled; then stores what it holds, and ends."""
        async with self._open_sqs() as sqs, self._open_s3() as s3:
            try:
                while True:
                    await self._attempt(sqs, self._gather(sqs))
                    while self._held and not await self._attempt(sqs, self._store_in_time(sqs, s3)):
                        pass
            except asyncio.CancelledError:
                with suppress(*_AWS_ERRORS):
                    async with asyncio.timeout(DRAIN_SECONDS):
                        await self._store(sqs, s3)
                raise

    async def _attempt(self, sqs: "SQSClient", step: Awaitable[None]) -> bool:
        """Awaits a step. When AWS fails it waits, longer each time, while the messages in hand stay ours."""
        try:
            await step
        except _AWS_ERRORS as error:
            pause = self._backoff.failed()
            _log.warning(
                "AWS failed", error=_name(error), failures=self._backoff.failures, pause=round(pause, 2),
                **embedded({NOT_STORED: (max(1, len(self._held)), "Count")}),
            )  # fmt: skip
            with suppress(*_AWS_ERRORS):
                await self._keep(sqs)
            await asyncio.sleep(pause)
            return False
        self._backoff.succeeded()
        return True

    async def _gather(self, sqs: "SQSClient") -> None:
        """Waits for messages, and takes more as long as there are more, up to the bounds of one round."""
        lanes = 1
        received = await self._receive(sqs, WAIT_SECONDS)
        end = asyncio.get_running_loop().time() + GATHER_SECONDS
        while received and asyncio.get_running_loop().time() < end and not self._is_full():
            # All lanes end before a failure of one is raised: what they received is held, and none adds to it behind
            # our back.
            counts = await asyncio.gather(*(self._receive(sqs, 0) for _ in range(lanes)), return_exceptions=True)
            for count in counts:
                if isinstance(count, BaseException):
                    raise count
            received = sum(count for count in counts if isinstance(count, int))
            lanes = min(LANES, lanes * 2) if received == lanes * MESSAGES_PER_CALL else lanes

    def _is_full(self) -> bool:
        return len(self._held) >= GATHERED_EVENTS or sum(len(held.record.line) for held in self._held) >= GATHERED_BYTES

    async def _receive(self, sqs: "SQSClient", wait_seconds: int) -> int:
        answer = await sqs.receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=MESSAGES_PER_CALL,
            WaitTimeSeconds=wait_seconds,
            VisibilityTimeout=VISIBILITY_SECONDS,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SenderId"],
        )
        messages = answer.get("Messages", [])
        for message in messages:
            attributes = message.get("Attributes", {})
            try:
                self._held.append(
                    _Held(message["ReceiptHandle"], self._intake.read(message["Body"], attributes.get("SenderId", "")))
                )
            except EnvelopeError as error:
                await self._give_up(sqs, message, str(error))
        return len(messages)

    async def _give_up(self, sqs: "SQSClient", message: "MessageTypeDef", cause: str) -> None:
        """Lets a message come back at once, until its receive count takes it to the dead letters."""
        if int(message.get("Attributes", {}).get("ApproximateReceiveCount", "1")) == 1:
            _log.error("left to the dead letters", message=message["MessageId"], cause=cause)
        await sqs.change_message_visibility(
            QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )

    async def _store_in_time(self, sqs: "SQSClient", s3: "S3Client") -> None:
        async with asyncio.timeout(STORE_SECONDS):
            await self._store(sqs, s3)

    async def _store(self, sqs: "SQSClient", s3: "S3Client") -> None:
        """Puts what is held into S3 and deletes it from the queue. May be repeated after it failed anywhere."""
        held = tuple(self._held)
        records = [message.record for message in held]
        objects = lay_out(record for record in records if record.identity not in self._stored)
        for item in objects:
            await self._put(s3, item)
            self._tell_stored(item)
        for record in records:
            self._stored[record.identity] = None
        if objects:
            _log.info(
                "stored", events=sum(item.events for item in objects), objects=len(objects), messages=len(records)
            )
        for part in _batches(held):
            answer = await sqs.delete_message_batch(
                QueueUrl=self._queue_url,
                Entries=[{"Id": str(number), "ReceiptHandle": message.receipt} for number, message in enumerate(part)],
            )
            if failed := answer.get("Failed"):
                # They come again when their visibility ends, are known as stored, and are deleted then.
                _log.warning("not deleted", messages=len(failed), code=failed[0].get("Code"))
        del self._held[: len(held)]

    async def _put(self, s3: "S3Client", item: AuditObject) -> None:
        try:
            await s3.put_object(
                Bucket=self._bucket, Key=item.key, Body=item.body, ContentType="application/gzip", IfNoneMatch="*"
            )
        except ClientError as error:
            # The key is made of the content: what is there is what we would write.
            if error.response.get("Error", {}).get("Code") != "PreconditionFailed":
                raise

    async def _keep(self, sqs: "SQSClient") -> None:
        """Keeps the messages in hand from other consumers."""
        for part in _batches(self._held):
            await sqs.change_message_visibility_batch(
                QueueUrl=self._queue_url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": message.receipt, "VisibilityTimeout": VISIBILITY_SECONDS}
                    for number, message in enumerate(part)
                ],
            )


def _batches(held: Sequence[_Held]) -> list[Sequence[_Held]]:
    return [held[start : start + MESSAGES_PER_CALL] for start in range(0, len(held), MESSAGES_PER_CALL)]


def _name(error: BaseException) -> str:
    """What an AWS error is called: the API's own code where there is one. Its text may hold data."""
    return (
        error.response.get("Error", {}).get("Code", "ClientError")
        if isinstance(error, ClientError)
        else type(error).__name__
    )
