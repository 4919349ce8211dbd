"""What comes out of the queue: an EventBridge envelope with one audit event in it.

An event is checked for what storing it depends on, and kept as it came: members and types that a newer source knows, and this release does not, are
part of the record too.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, date
from typing import Any

from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from google.protobuf import json_format

SOURCE_PREFIX = "authmesh."

# The source becomes part of an S3 key.
_SOURCE = re.compile(r"[a-z][a-z0-9-]{0,30}")
_TYPE = re.compile(r"[a-z]+\.[a-z_]+")


class EnvelopeError(ValueError):
    """The message holds no audit event. Says what is wrong, without repeating the content."""


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
        """Equal for repetitions of one event. The content is part of it: another event under a number that was used is no repetition, and whoever
        forges one must not make the true one disappear.
        """
        return self.source, self.sequence, hashlib.sha256(self.line).digest()


def read(body: str) -> Record:
    """The event in the body of a queue message.

    Raises:
        EnvelopeError: it is no envelope of ours, or its event cannot be stored.
    """
    try:
        envelope = json.loads(body, parse_constant=_refuse)
        detail = envelope["detail"]
        event = json_format.ParseDict(detail, AuditEvent(), ignore_unknown_fields=True)
        # ASCII: no reader takes a line separator of Unicode for the end of a line.
        line = json.dumps(detail, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()
        _check(envelope, event)
        day = event.event_time.ToDatetime(UTC).date()
    except EnvelopeError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError, json_format.Error) as error:
        raise EnvelopeError(f"not an envelope with an audit event ({type(error).__name__})") from error
    return Record(event.source, event.sequence, day, line)


def _check(envelope: dict[str, Any], event: AuditEvent) -> None:
    if not _SOURCE.fullmatch(event.source) or envelope.get("source") != SOURCE_PREFIX + event.source:
        raise EnvelopeError("the event names another source than the envelope")
    if not _TYPE.fullmatch(event.type) or envelope.get("detail-type") != event.type:
        raise EnvelopeError("the event has another type than the envelope")
    if event.sequence < 1:
        raise EnvelopeError("the event has no number")
    if not event.HasField("event_time"):
        raise EnvelopeError("the event has no time")


def _refuse(_: str) -> Any:
    raise EnvelopeError("not JSON")
