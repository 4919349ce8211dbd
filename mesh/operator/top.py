"""`authmesh top`: what the processes and the edge do right now, from their metrics."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from mesh.operator.samples import Sample, quantiles, seconds, since

_EDGE_CALLS, _EDGE_SECONDS = "envoy_http_downstream_rq_total", "envoy_http_downstream_rq_time"
_OF_EDGE = {"envoy_http_conn_manager_prefix": "edge"}
_SLOW, _STALE, _OLD = 1.0, 3.0, 60.0
"""Seconds from which on a figure is marked."""
_REASONS = 3
_FINE = frozenset(("OK", "CANCELLED"))


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


def pages(addresses: Mapping[str, str], gateway: str) -> dict[str, str]:
    """Where the metrics of each process are; of the edge, which is Envoy alone, those of its Envoy."""
    return {node: f"{at}/metrics{'/envoy' if node == gateway else ''}" for node, at in addresses.items()}


def row(node: str, before: Sample | None, after: Sample | None) -> Row:
    """What happened between two samples. A process that started anew in between begins at nothing."""
    if after is None:
        return Row(node, ready=False)
    if before is None:
        return Row(node)
    elapsed = max(after.at - before.at, 1e-3)
    if _EDGE_CALLS in after.values:
        calls = since(before.total(_EDGE_CALLS, _OF_EDGE), after.total(_EDGE_CALLS, _OF_EDGE))
        # Envoy tells milliseconds.
        p50, p99 = (found / 1000 for found in quantiles(before, after, _EDGE_SECONDS, _OF_EDGE))
        return Row(node, True, calls / elapsed, p50, p99)
    earlier = before.by("authmesh_rpc_calls_total", "status", "reason")
    ended = {
        key: since(earlier.get(key, 0.0), count) / elapsed
        for key, count in after.by("authmesh_rpc_calls_total", "status", "reason").items()
    }
    refused = [(reason or status, rate) for (status, reason), rate in ended.items() if rate and status not in _FINE]
    p50, p99 = quantiles(before, after, "authmesh_rpc_seconds")
    return Row(
        node,
        all(ready for _, ready in after.values.get("authmesh_part_ready", ())),
        sum(ended.values()),
        p50,
        p99,
        sorted(refused, key=lambda one: -one[1])[:_REASONS],
        after.total("authmesh_revocation_staleness_seconds"),
        max((age for _, age in after.values.get("authmesh_outbox_oldest_seconds", ())), default=0.0),
        since(before.total("process_cpu_seconds_total"), after.total("process_cpu_seconds_total")) / elapsed,
        after.total("process_resident_memory_bytes"),
    )


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
            seconds(one.p50, _SLOW),
            seconds(one.p99, _SLOW),
            seconds(one.staleness, _STALE),
            seconds(one.oldest, _OLD),
            "-" if one.cpu is None else f"{one.cpu:.0%}",
            "-" if one.memory is None else f"{one.memory / 2**20:,.0f} MiB",
            ", ".join(f"{reason} {rate:.1f}" for reason, rate in one.refusals),
        )
    return made
