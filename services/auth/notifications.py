"""Notices: what another service saw and a person should hear of, made a message to them.

Auth does it, because the addresses are here.

The events come from EventBridge through a topic of their own to a queue (`deploy/aws/events.yaml`). A notice may come
twice and late: one that was sent for its session already is not sent again, and one about someone without an account
is dropped.
"""

import asyncio
import json
import random
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from authmesh.audit.v1 import audit_event_pb2
from google.protobuf import json_format

from mesh.errors import Unavailable
from mesh.outbox.work import UnitOfWork, Work
from mesh.resources.name import USER
from mesh.runtime.interruption import Interruption
from mesh.runtime.part import Part
from services.auth import throttle
from services.auth.store import Accounts, Buckets

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

WAIT_SECONDS = 20
"""Of a long poll: the longest that SQS has."""
NOTICES_AT_ONCE = 5
NOTICE_SECONDS = 20.0
"""The longest that one notice may take. All of a receive are done, or given up, within the queue's visibility timeout
(deploy/aws/events.yaml)."""
PAUSE_SECONDS = 5.0
"""After AWS or the database failed."""
MESSAGE_OF_EVENT = {"token.reuse_detected": "token_reuse"}
"""The kind of message that an event becomes."""

_log = structlog.get_logger("authmesh.notices")


class NoticeError(ValueError):
    """The queue's message is not a notice. Says why, without repeating the content."""


async def notify(tx: UnitOfWork, *, email: str, kind: str, about: str, now: datetime, device: str = "") -> bool:
    """Writes a notice to a person, unless one of its kind about the same thing was written in the last 24 hours.

    Args:
        tx: The transaction of what it tells of.
        email: To whom.
        kind: Names the letter.
        about: What makes it the same notice: a session, or an address.
        now: The time.
        device: The name of the device, where there is one.

    Returns:
        Whether it was written.
    """
    if isinstance(await Buckets().take(tx, {throttle.key("notice", kind, about): throttle.NOTICE}, now), timedelta):
        return False
    tx.message(email=email, kind=kind, facts={"device": device} if device else {})
    return True


class NotificationConsumer(Part):
    """Takes notices from the queue, forever. Any number of replicas may run."""

    name = "notifications"

    def __init__(
        self,
        work: Work,
        open_sqs: Callable[[], AbstractAsyncContextManager[Any]],
        queue_url: str,
    ) -> None:
        """Initializes the instance.

        Args:
            work: Of Auth.
            open_sqs: Opens a client of the `sqs` API.
            queue_url: The queue of notices.
        """
        self._work = work
        self._open_sqs = open_sqs
        self._queue_url = queue_url
        self._accounts = Accounts()

    async def run(self) -> None:
        """Serves until it is cancelled."""
        from botocore.exceptions import BotoCoreError, ClientError

        interruption = Interruption(_log, "notices wait")
        async with self._open_sqs() as sqs:
            while True:
                try:
                    await self._take(sqs)
                    interruption.ended()
                except (BotoCoreError, ClientError, OSError, TimeoutError, Unavailable) as error:
                    interruption.failed(error=type(error).__name__)
                    await asyncio.sleep(PAUSE_SECONDS * random.uniform(0.5, 1.0))

    async def _take(self, sqs: "SQSClient") -> None:
        # Receiving while the database is unavailable would use up the receive counts of good messages.
        await self._work.database.fetchval("SELECT 1")
        answer = await sqs.receive_message(
            QueueUrl=self._queue_url, MaxNumberOfMessages=NOTICES_AT_ONCE, WaitTimeSeconds=WAIT_SECONDS
        )
        for message in answer.get("Messages", []):
            async with asyncio.timeout(NOTICE_SECONDS):
                try:
                    await self.deliver(message["Body"])
                except NoticeError as error:
                    # Not deleted: its receive count takes it to the dead letters, and holds up nothing.
                    _log.error("left to the dead letters", message=message["MessageId"], cause=str(error))
                    continue
                await sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"])

    async def deliver(self, body: str) -> None:
        """Makes a message of a notice.

        Args:
            body: An EventBridge envelope with an audit event in it.

        Raises:
            NoticeError: it is none.
            Unavailable: the database is out of reach; nothing was written.
        """
        event = _event(body)
        user_id = _user_id(event)
        async with self._work.begin() as tx:
            account = await self._accounts.by_id(tx, user_id)
            if account is None:
                # Deleted meanwhile.
                return
            about = event.session or event.subject
            await notify(tx, email=account.email, kind=MESSAGE_OF_EVENT[event.type], about=about, now=self._work.now())


def _event(body: str) -> audit_event_pb2.AuditEvent:
    try:
        envelope = json.loads(body)
        event = json_format.ParseDict(envelope["detail"], audit_event_pb2.AuditEvent(), ignore_unknown_fields=True)
        source = envelope["source"]
    except (ValueError, TypeError, KeyError, RecursionError, json_format.Error) as error:
        raise NoticeError(f"not an envelope with an audit event ({type(error).__name__})") from None
    if event.type not in MESSAGE_OF_EVENT:
        raise NoticeError("an event that no message is sent for")
    # IAM lets each node put events with its own name as `source` only: another service can have no one told that their
    # token was stolen.
    if source != f"authmesh.{event.source}" or event.type.partition(".")[0] != event.source:
        raise NoticeError("the event comes from another service than the one whose event it is")
    return event


def _user_id(event: audit_event_pb2.AuditEvent) -> uuid.UUID:
    try:
        return uuid.UUID(USER.id(event.subject))
    except ValueError:
        raise NoticeError("an event without a subject") from None
