"""A trace: the spans of one call on its way, and how they are drawn. `authmesh trace` shows those of the local mesh."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from rich.table import Table
from rich.text import Text

from mesh.operator.errors import OperatorError

_WIDTH = 40
"""Characters of a bar."""
_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Span:
    """One part of a call."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty: of the first one."""
    service: str
    name: str
    start: int
    end: int
    """Nanoseconds since the epoch."""
    failed: bool
    attributes: Mapping[str, str]

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return max(0, self.end - self.start) / 1e6


@dataclass(frozen=True, slots=True)
class Trace:
    """The spans that came so far."""

    id: str
    spans: Sequence[Span]

    @property
    def root(self) -> Span:
        """The first one: without a parent, or whose parent did not come."""
        known = {span.span_id for span in self.spans}
        first = [span for span in self.spans if span.parent_id not in known]
        return min(first or self.spans, key=lambda span: (span.start, -span.end))

    @property
    def name(self) -> str:
        """What was called: of a process's span, where there is one, since an Envoy names its route."""
        called = [span for span in self.spans if "rpc.method" in span.attributes]
        return min(called, key=lambda span: span.start).name if called else self.root.name

    @property
    def status(self) -> str:
        """How it ended, as the process said."""
        called = [span for span in self.spans if "rpc.response.status_code" in span.attributes]
        if not called:
            return self.root.attributes.get("http.status_code", "")
        first = min(called, key=lambda span: span.start).attributes
        return " ".join(filter(None, (first["rpc.response.status_code"], first.get("authmesh.reason", ""))))

    @property
    def failed(self) -> bool:
        """Whether a part of it failed."""
        return any(span.failed for span in self.spans)

    @property
    def started(self) -> str:
        """When, in UTC."""
        return datetime.fromtimestamp(self.root.start / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3]

    @property
    def milliseconds(self) -> float:
        """From its first moment to its last."""
        return (max(span.end for span in self.spans) - min(span.start for span in self.spans)) / 1e6


@dataclass(frozen=True, slots=True)
class Row:
    """A span's place in a waterfall."""

    span: Span
    depth: int
    left: float
    width: float
    """Of the whole, from 0 to 1."""


def rows(trace: Trace) -> Iterator[Row]:
    """The spans in the order of a waterfall: each below the one that it is a part of."""
    begin = min(span.start for span in trace.spans)
    whole = max(1, max(span.end for span in trace.spans) - begin)
    known = {span.span_id for span in trace.spans}
    parts: dict[str, list[Span]] = {}
    for span in sorted(trace.spans, key=lambda span: (span.start, -span.end)):
        parts.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
    left = list(reversed([(span, 0) for span in parts.pop("", [])]))
    while left:
        span, depth = left.pop()
        yield Row(span, depth, (span.start - begin) / whole, max(0, span.end - span.start) / whole)
        # Each is drawn once, also where spans name each other.
        left += [(part, depth + 1) for part in reversed(parts.pop(span.span_id, []))]


async def fetch(address: str, trace_id: str | None) -> Any:
    """A trace of the local mesh, or a list of the newest.

    Raises:
        OperatorError: there is no such trace, or the mesh does not answer.
    """
    path = "/api/traces" if trace_id is None else f"/api/traces/{trace_id}"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session,
            session.get(f"{address}{path}") as answer,
        ):
            if answer.status == 404:
                raise OperatorError(
                    f"there is no trace {trace_id}: only the newest are kept, and spans come seconds after a call"
                )
            found = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise OperatorError(f"{address} does not answer: {error}") from None
    return found if trace_id is None else Trace(found["id"], tuple(Span(**span) for span in found["spans"]))


def table(trace: Trace) -> Table:
    """A waterfall for a terminal."""
    made = Table(box=None, pad_edge=False)
    made.add_column("SPAN", no_wrap=True)
    made.add_column("OF")
    made.add_column("TOOK", justify="right", no_wrap=True)
    made.add_column("")
    for row in rows(trace):
        span = row.span
        begin = min(_WIDTH - 1, round(row.left * _WIDTH))
        length = max(1, min(_WIDTH - begin, round(row.width * _WIDTH)))
        style = "bold red" if span.failed else "blue"
        reason = span.attributes.get("authmesh.reason") or span.attributes.get("error.type", "")
        made.add_row(
            Text(f"{'  ' * row.depth}{span.name}", "bold red" if span.failed else ""),
            Text(span.service, "dim"),
            f"{span.milliseconds:,.2f} ms",
            Text.assemble(" " * begin, ("━" * length, style), f" {reason}" if reason else ""),
        )
    return made


def listing(found: Sequence[Mapping[str, Any]]) -> Table:
    """The newest traces for a terminal."""
    made = Table(box=None, pad_edge=False)
    for heading in ("WHEN", "CALL", "STATUS"):
        made.add_column(heading, no_wrap=True)
    made.add_column("TOOK", justify="right", no_wrap=True)
    made.add_column("TRACE", no_wrap=True)
    for one in found:
        status = Text(one["status"], "bold red" if one["failed"] else "")
        made.add_row(one["started"], one["name"], status, f"{one['milliseconds']:,.1f} ms", one["id"])
    return made
