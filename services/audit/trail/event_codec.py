"""Lines of the trail as links of their source's chain.

The chain runs over the protobuf bytes of an event (`mesh.audit.canonical`), and S3 holds its JSON: the bytes are made
again from it. That is exact for every member this release knows. A member that it does not know is an error that says
so, never a false alarm about the event.
"""

import gzip
import hashlib
import io
import json
import zlib
from dataclasses import dataclass, replace
from typing import Any

from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from google.protobuf import json_format

from mesh.audit import tombstone
from mesh.audit.canonical import canonical
from mesh.audit.tombstone import Parking

MAX_CONTENT = 256 * 1024 * 1024
"""Of an unpacked object. The consumer writes some 10 MiB at most and the function 500 events; a small file may unpack
to anything."""


class LineError(ValueError):
    """A line that holds no event that can be checked. Says why, without repeating the content."""


@dataclass(frozen=True, slots=True)
class Link:
    """One event as a link of its source's chain."""

    source: str
    sequence: int
    previous_hash: bytes
    """Of the event before it; empty for the first."""
    payload: bytes
    """The event in protobuf, as the relay hashed it."""
    hash: bytes
    """What the event behind it carries as its `previous_hash`."""
    is_tombstone: bool = False
    """Whether it stands for an event that has its number and could not be delivered. The hash is that event's then."""
    parking: Parking | None = None
    """What it states of a tombstone, if it does."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of its own bytes: its hash, where it is not a tombstone."""
        return hashlib.sha256(self.payload).digest() if self.is_tombstone else self.hash

    @property
    def event(self) -> AuditEvent:
        """The event itself."""
        return AuditEvent.FromString(self.payload)

    def renumbered(self, sequence: int) -> "Link":
        """The link that this event would be with another number."""
        event = self.event
        event.sequence = sequence
        payload = canonical(event)
        return replace(self, sequence=sequence, payload=payload, hash=hashlib.sha256(payload).digest())


def read_line(line: bytes) -> Link:
    """The link that a line holds.

    Raises:
        LineError: it holds none, or one with members of a newer release.
    """
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LineError(f"it holds no event ({type(error).__name__})") from error
    event = event_of(document)
    payload = canonical(event)
    is_tombstone = tombstone.is_tombstone(event)
    own = tombstone.link(event) if is_tombstone else hashlib.sha256(payload).digest()
    if len(own) != hashlib.sha256().digest_size:
        raise LineError("it is a tombstone that stands for no event")
    return Link(event.source, event.sequence, event.previous_hash, payload, own, is_tombstone, tombstone.parking(event))


def event_of(document: Any) -> AuditEvent:
    """The event that JSON says.

    Raises:
        LineError: it says none, or one with members of a newer release.
    """
    event = AuditEvent()
    try:
        json_format.ParseDict(document, event)
    except (ValueError, TypeError, AttributeError, RecursionError, json_format.Error) as error:
        if "no field named" in str(error):
            raise LineError(
                "it has a member that this release does not know: verify with the release that wrote it, or a newer one"
            ) from error
        raise LineError(f"it holds no event ({type(error).__name__})") from error
    if not event.source or event.sequence < 1:
        raise LineError("the event has no source or no number")
    return event


def unpack(body: bytes) -> list[bytes]:
    """The lines of an object.

    Raises:
        LineError: it is not the gzip file that the consumer writes.
    """
    try:
        # To the end of the file, whose checksum is looked at there.
        content = gzip.GzipFile(fileobj=io.BytesIO(body)).read(MAX_CONTENT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise LineError(f"it is not a gzip file ({type(error).__name__})") from error
    if len(content) > MAX_CONTENT:
        raise LineError("it is far larger than any that the consumer writes")
    if content and not content.endswith(b"\n"):
        raise LineError("its last line is cut off")
    return content.split(b"\n")[:-1]
