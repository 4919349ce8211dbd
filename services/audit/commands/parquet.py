"""The trail as Parquet, for questions over years.

Not smaller than the JSON lines, but only the columns asked for are read. Needs pyarrow.

A copy for reading, and no proof: each event once, by source and day, as the Glue table `events_parquet` of
`deploy/aws/events.yaml` reads it. Personal data stays sealed, so that erasing a key erases it here, too.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from authmesh.audit.v1.audit_event_pb2 import AuditEvent, Outcome
from google.protobuf.descriptor import FieldDescriptor

from mesh.audit.personal import PERSONAL
from services.audit.trail.archive import Archive, read_all
from services.audit.trail.event_codec import LineError, read_line, unpack
from services.audit.trail.objects import PREFIX, SUFFIX

FILE = "events.parquet"
ROWS_AT_ONCE = 20_000
"""Of a row group, and in memory."""
LISTED = 20
"""Pieces of the trail that are named when they could not be read."""

_OBJECT = re.compile(rf"{PREFIX}source=([a-z][a-z0-9-]*)/dt=(\d{{4}}-\d\d-\d\d)/[^/]+{re.escape(SUFFIX)}")

_FIELDS = tuple(column for column in AuditEvent.DESCRIPTOR.fields if column.name not in {"source", *PERSONAL})
_TYPES = {
    FieldDescriptor.TYPE_STRING: pa.string(),
    FieldDescriptor.TYPE_INT64: pa.int64(),
    FieldDescriptor.TYPE_BYTES: pa.binary(),
}
_TYPES_BY_NAME = {
    "event_time": pa.timestamp("us", tz="UTC"),
    "outcome": pa.string(),
    "detail": pa.map_(pa.string(), pa.string()),
}

SCHEMA = pa.schema(
    [(column.json_name.lower(), _TYPES_BY_NAME.get(column.name) or _TYPES[column.type]) for column in _FIELDS]
)
"""Columns are named as in the table over the JSON lines. `source` and the day are the folders' names."""


@dataclass
class Exported:
    """What became of the trail."""

    events: int = 0
    files: int = 0
    left_out: list[str] = field(default_factory=list)
    """What could not be read, and why: the first of it."""
    unlisted: int = 0
    """What else could not be."""

    def leave_out(self, what: str) -> None:
        """Takes down what could not be read."""
        if len(self.left_out) < LISTED:
            self.left_out.append(what)
        else:
            self.unlisted += 1


async def export(
    archive: Archive,
    output: Path,
    *,
    since: date | None = None,
    until: date | None = None,
    source: str | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> Exported:
    """Writes `source=…/dt=…/events.parquet` for every source and day.

    A file that is there is replaced, when its successor is whole.

    Args:
        archive: The bucket, or a copy of it.
        output: A directory.
        since: The first day; None: all.
        until: The last day; None: all.
        source: Only this one; None: all.
        progress: Told how many objects were read.

    Raises:
        ClientError, BotoCoreError, OSError: the archive can't be read, or the directory not be written.
    """
    result = Exported()
    folders = await archive.folders(PREFIX) if source is None else [f"source={source}/"]
    for folder in folders:
        async for day, keys in _days(archive, f"{PREFIX}{folder}", since, result):
            if until and day > until.isoformat():
                break
            with _file(output / folder / f"dt={day}" / FILE) as writer:
                await _write(archive, keys, writer, result, progress)
            result.files += 1
    return result


async def _days(
    archive: Archive, prefix: str, since: date | None, result: Exported
) -> AsyncIterator[tuple[str, list[str]]]:
    """The objects of each day. Only what has the form of our keys: they become paths."""
    day, keys = "", list[str]()
    async for key in archive.keys(prefix, f"{prefix}dt={since.isoformat()}" if since else ""):
        matched = _OBJECT.fullmatch(key)
        if matched is None:
            if key.endswith(SUFFIX):
                result.leave_out(f"{key} has no name that the consumer gives")
            continue
        if matched[2] != day and keys:
            yield day, keys
            keys = []
        day = matched[2]
        keys.append(key)
    if keys:
        yield day, keys


async def _write(
    archive: Archive, keys: Sequence[str], writer: Any, result: Exported, progress: Callable[[int], None]
) -> None:
    seen: set[bytes] = set()
    rows: list[dict[str, Any]] = []
    async for key, body in read_all(archive, keys):
        for event in _events(key, body, seen, result):
            rows.append(_row(event))
            if len(rows) == ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                rows.clear()
        progress(1)
    if rows:
        writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
    result.events += len(seen)


def _events(key: str, body: bytes | None, seen: set[bytes], result: Exported) -> Iterator[AuditEvent]:
    """Those that were not seen yet: an event that is delivered twice lies in the same day."""
    source = key.removeprefix(f"{PREFIX}source=").partition("/")[0]
    try:
        lines = unpack(body or b"")
    except LineError as error:
        result.leave_out(f"{key}: {error}")
        return
    for number, line in enumerate(lines, 1):
        try:
            link = read_line(line)
            if link.source != source:
                raise LineError(f"it is of the source {link.source}")
        except LineError as error:
            result.leave_out(f"line {number} of {key}: {error}")
            continue
        digest = hashlib.sha256(link.payload).digest()[:16]
        if digest not in seen:
            seen.add(digest)
            yield link.event


def _row(event: AuditEvent) -> dict[str, Any]:
    """What is empty is NULL, as JSON lines have no member then."""
    values: dict[str, Any] = {column.json_name.lower(): getattr(event, column.name) or None for column in _FIELDS}
    return values | {
        "eventtime": event.event_time.ToDatetime(UTC),
        "outcome": Outcome.Name(event.outcome) if event.outcome in Outcome.values() else str(event.outcome),
        "detail": sorted(event.detail.items()),
    }


@contextmanager
def _file(path: Path) -> Iterator[Any]:
    """A writer of what is `path` when it is whole. Athena doesn't look at names that begin with a dot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    try:
        with pq.ParquetWriter(unfinished, SCHEMA, compression="zstd") as writer:
            yield writer
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
