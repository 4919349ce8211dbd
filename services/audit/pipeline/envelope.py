"""What comes out of the queue: an EventBridge envelope with one audit event in it.

An event is taken when a verifier can read it, and not otherwise: one line that no one can hold against the chain would
spoil the proof for good. What is refused stays in the queue until it is a dead letter, and goes back (`authmesh audit
redrive`) when a release is there that reads it.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date
from typing import Any

from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from google.protobuf import json_format

from services.audit.trail.event_codec import LineError, event_of, read_line

SOURCE_PREFIX = "authmesh."
LAST_NUMBER = 10**16 - 1
"""Names of objects have sixteen digits."""

# The source becomes part of an S3 key.
_SOURCE = re.compile(r"[a-z][a-z0-9-]{0,30}")
_TYPE = re.compile(r"[a-z]+\.[a-z_]+")
_HASH_SIZE = hashlib.sha256().digest_size


class EnvelopeError(ValueError):
    """The message is not taken. Says what is wrong, without repeating the content."""


@dataclass(frozen=True, slots=True)
class Record:
    """One event, ready to be stored."""

    source: str
    sequence: int
    date: date
    """The UTC day of the event, by its source's clock."""
    line: bytes = field(repr=False)
    """The event's JSON: canonical, so that a repetition is the same bytes."""

    @property
    def identity(self) -> tuple[str, int, bytes]:
        """Equal for repetitions of one event.

        The content is part of it: another event under a number that was used is not a repetition, and a forger of one
        must not make the true one disappear.
        """
        return self.source, self.sequence, hashlib.sha256(self.line).digest()


class Intake:
    """Whose events are taken.

    The bus puts into an envelope what the sender called itself, and IAM lets each node call itself by its own name
    only. The queue adds who put the message into it, which is the bus, or an operator who redrives.
    """

    def __init__(self, sources: Iterable[str], senders: Iterable[str] = ()) -> None:
        """Initializes the instance.

        Args:
            sources: The nodes of the mesh.
            senders: SQS sender ids, up to the colon; none: the queue's policy alone says who may send.
        """
        self._sources = frozenset(sources)
        self._senders = frozenset(senders)

    def read(self, body: str, sender: str) -> Record:
        """The event in a message.

        Args:
            body: The message.
            sender: Its attribute `SenderId`.

        Raises:
            EnvelopeError: it is not taken.
        """
        if self._senders and sender.partition(":")[0] not in self._senders:
            raise EnvelopeError(
                "the message was put into the queue by another sender than those of AUDIT_QUEUE_SENDERS"
            )
        record = read(body)
        if record.source not in self._sources:
            raise EnvelopeError("the event is of a source that is not a node of the mesh")
        return record


def names(setting: str) -> list[str]:
    """The names in a list with commas."""
    return [name for part in setting.split(",") if (name := part.strip())]


def read(body: str) -> Record:
    """The event in the body of a queue message, of whatever source.

    Raises:
        EnvelopeError: it is not an envelope of ours, or its event could not be verified later.
    """
    try:
        envelope = json.loads(body, parse_constant=_refuse)
        event = event_of(envelope["detail"])
        # The one form that every writer of JSON would give it. ASCII: no reader takes a line separator of Unicode for
        # the end of a line.
        line = json.dumps(json_format.MessageToDict(event), separators=(",", ":"), sort_keys=True).encode()
        link = read_line(line)
        _check(envelope, event)
        day = event.event_time.ToDatetime(UTC).date()
    except LineError as error:
        raise EnvelopeError(f"no verifier could read the event: {error}") from error
    except EnvelopeError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError, json_format.Error) as error:
        raise EnvelopeError(f"not an envelope with an audit event ({type(error).__name__})") from error
    return Record(link.source, link.sequence, day, line)


def _check(envelope: dict[str, Any], event: AuditEvent) -> None:
    if not _SOURCE.fullmatch(event.source) or envelope.get("source") != SOURCE_PREFIX + event.source:
        raise EnvelopeError("the event names another source than the envelope")
    if not _TYPE.fullmatch(event.type) or envelope.get("detail-type") != event.type:
        raise EnvelopeError("the event has another type than the envelope")
    if event.sequence > LAST_NUMBER:
        raise EnvelopeError("the event has a number with more than sixteen digits")
    if len(event.previous_hash) != (_HASH_SIZE if event.sequence > 1 else 0):
        raise EnvelopeError("the event does not name the one before it")
    if not event.HasField("event_time"):
        raise EnvelopeError("the event has no time")


def _refuse(_: str) -> Any:
    raise EnvelopeError("not JSON")
