"""The objects of the audit trail in S3: gzip files of JSON lines, by source and day.

The name of an object is a function of its content, so writing the same events again names the same object, and a
conditional put finds it there. Events that are delivered twice in different company end in two objects: readers
deduplicate by (source, sequence).
"""

import gzip
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from services.audit.pipeline.envelope import Record

PREFIX = "audit/"
SUFFIX = ".jsonl.gz"


@dataclass(frozen=True, slots=True)
class AuditObject:
    """One object, ready to be put."""

    key: str
    """`audit/source=<source>/dt=YYYY-MM-DD/<first>-<last>-<hash>.jsonl.gz`; numbers have leading zeros, so that keys
    sort like events."""
    body: bytes
    events: int
    """How many lines it has."""


def lay_out(records: Iterable[Record]) -> list[AuditObject]:
    """The objects that hold `records`: each once, in the order of their numbers."""
    groups: defaultdict[tuple[str, date], dict[tuple[str, int, bytes], Record]] = defaultdict(dict)
    for record in records:
        groups[record.source, record.date][record.identity] = record
    return [
        _encode(source, day, [group[identity] for identity in sorted(group)])
        for (source, day), group in sorted(groups.items())
    ]


def _encode(source: str, day: date, records: list[Record]) -> AuditObject:
    content = b"".join(record.line + b"\n" for record in records)
    packed = io.BytesIO()
    # No time in the header: the bytes depend on the events alone.
    with gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=0) as file:
        file.write(content)
    name = f"{records[0].sequence:016d}-{records[-1].sequence:016d}-{hashlib.sha256(content).hexdigest()[:32]}"
    return AuditObject(f"{PREFIX}source={source}/dt={day.isoformat()}/{name}{SUFFIX}", packed.getvalue(), len(records))
