"""`authmesh top`: what the processes and the edge do right now, from their metrics."""

import asyncio
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table
from rich.text import Text

SCRAPE_SECONDS = 2.0
"""For one answer."""
_EDGE_CALLS, _EDGE_SECONDS = "envoy_http_downstream_rq_total", "envoy_http_downstream_rq_time"
_OF_EDGE = {"envoy_http_conn_manager_prefix": "edge"}
_SLOW, _STALE, _OLD = 1.0, 3.0, 60.0
"""Seconds from which on a figure is marked."""
_REASONS = 3
_FINE = frozenset(("OK", "CANCELLED"))

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """What a node told, and when."""

    at: float
    values: Mapping[str, Sequence[tuple[Labels, float]]]

    @classmethod
    def parse(cls, text: str, at: float) -> "Sample":
        """Of Prometheus's text format."""
        values: dict[str, list[tuple[Labels, float]]] = {}
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                values.setdefault(one.name, []).append((one.labels, one.value))
        return cls(at, values)

    def total(self, name: str, having: Labels | None = None) -> float:
        """The sum of a metric over all labels that are not named."""
        wanted = (having or {}).items()
        return sum(value for labels, value in self.values.get(name, ()) if wanted <= labels.items())

    def by(self, name: str, *labels: str, having: Labels | None = None) -> dict[tuple[str, ...], float]:
        """The sums of a metric by some of its labels."""
        found: dict[tuple[str, ...], float] = {}
        for labelled, value in self.values.get(name, ()):
            if (having or {}).items() <= labelled.items():
                key = tuple(labelled.get(label, "") for label in labels)
                found[key] = found.get(key, 0.0) + value
        return found


@dataclass(frozen=True, slots=True)
class Row:
    """One node, between two samples."""

    node: str
    ready: bool | None = None
    """None: it doesn't say."""
    calls: float = 0.0
    """A second."""
    p50: float = math.nan
    p99: float = math.nan
    """In seconds. NaN without calls."""
    refusals: Sequence[tuple[str, float]] = ()
    """Reasons, the most frequent first, and how often a second."""
    staleness: float | None = None
    oldest: float | None = None
    """Of the outbox, in seconds."""
    cpu: float | None = None
    """Processors in use."""
    memory: float | None = None
    """Bytes."""


async def sample(addresses: Mapping[str, str], gateway: str) -> dict[str, Sample | None]:
    """What every node says now; None of one that does not answer.

    Args:
        addresses: Where each is looked at.
        gateway: The edge, which is Envoy alone.
    """
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SCRAPE_SECONDS)) as session:

        async def ask(node: str, address: str) -> Sample | None:
            try:
                async with session.get(f"{address}/metrics{'/envoy' if node == gateway else ''}") as answer:
                    return Sample.parse(await answer.text(), time.monotonic()) if answer.status == 200 else None
            except (aiohttp.ClientError, TimeoutError, ValueError):
                return None

        answers = await asyncio.gather(*(ask(node, address) for node, address in addresses.items()))
    return dict(zip(addresses, answers, strict=True))


def row(node: str, before: Sample | None, after: Sample | None) -> Row:
    """What happened between two samples. A process that started anew in between begins at nothing."""
    if after is None:
        return Row(node, ready=False)
    if before is None:
        return Row(node)
    seconds = max(after.at - before.at, 1e-3)
    if _EDGE_CALLS in after.values:
        calls = _since(before.total(_EDGE_CALLS, _OF_EDGE), after.total(_EDGE_CALLS, _OF_EDGE))
        # Envoy tells milliseconds.
        p50, p99 = (found / 1000 for found in _quantiles(before, after, _EDGE_SECONDS, _OF_EDGE))
        return Row(node, True, calls / seconds, p50, p99)
    earlier = before.by("authmesh_rpc_calls_total", "status", "reason")
    ended = {
        key: _since(earlier.get(key, 0.0), count) / seconds
        for key, count in after.by("authmesh_rpc_calls_total", "status", "reason").items()
    }
    refused = [(reason or status, rate) for (status, reason), rate in ended.items() if rate and status not in _FINE]
    p50, p99 = _quantiles(before, after, "authmesh_rpc_seconds")
    return Row(
        node,
        all(ready for _, ready in after.values.get("authmesh_part_ready", ())),
        sum(ended.values()),
        p50,
        p99,
        sorted(refused, key=lambda one: -one[1])[:_REASONS],
        after.total("authmesh_revocation_staleness_seconds"),
        max((age for _, age in after.values.get("authmesh_outbox_oldest_seconds", ())), default=0.0),
        _since(before.total("process_cpu_seconds_total"), after.total("process_cpu_seconds_total")) / seconds,
        after.total("process_resident_memory_bytes"),
    )


def _since(before: float, after: float) -> float:
    return after - before if after >= before else after


def _quantiles(before: Sample, after: Sample, name: str, having: Labels | None = None) -> Iterator[float]:
    """p50 and p99, as `histogram_quantile` finds them: within a bucket, evenly."""
    earlier = before.by(f"{name}_bucket", "le", having=having)
    counts = sorted(
        (float(limit), _since(earlier.get((limit,), 0.0), count))
        for (limit,), count in after.by(f"{name}_bucket", "le", having=having).items()
    )
    total = counts[-1][1] if counts else 0.0
    for quantile in (0.5, 0.99):
        found, lower, below = math.nan, 0.0, 0.0
        for limit, count in counts if total else ():
            if count >= quantile * total:
                share = (quantile * total - below) / (count - below) if count > below else 1.0
                found = lower + (limit - lower) * share if math.isfinite(limit) else lower
                break
            lower, below = limit, count
        yield found


def table(rows: Sequence[Row]) -> Table:
    """For people."""
    made = Table(box=None, pad_edge=False)
    made.add_column("NODE")
    made.add_column("READY")
    for heading in ("CALLS/S", "P50", "P99", "STALE", "OUTBOX", "CPU", "MEMORY"):
        made.add_column(heading, justify="right", no_wrap=True)
    made.add_column("REFUSED/S")
    for one in rows:
        ready = Text("-", "dim") if one.ready is None else Text("yes", "green") if one.ready else Text("no", "bold red")
        made.add_row(
            one.node,
            ready,
            f"{one.calls:,.1f}",
            _seconds(one.p50, _SLOW),
            _seconds(one.p99, _SLOW),
            _seconds(one.staleness, _STALE),
            _seconds(one.oldest, _OLD),
            "-" if one.cpu is None else f"{one.cpu:.0%}",
            "-" if one.memory is None else f"{one.memory / 2**20:,.0f} MiB",
            ", ".join(f"{reason} {rate:.1f}" for reason, rate in one.refusals),
        )
    return made


def _seconds(value: float | None, marked: float) -> Text:
    if value is None or math.isnan(value):
        return Text("-", "dim")
    text = "never" if math.isinf(value) else f"{value * 1000:.1f} ms" if value < 1 else f"{value:.1f} s"
    return Text(text, "bold red" if value >= marked else "")
