"""`authmesh mesh status`: each Envoy, what it sends calls to, and how that goes, from the Envoys' own metrics."""

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from mesh.operator.samples import Labels, Sample, quantiles, seconds, since

_CLUSTER = "envoy_cluster_name"
_NAMED = re.compile(r"cds_(?P<way>egress|ingress)_.+_(?P<node>[a-z0-9-]+)_(?:grpc|http2)_\d+")
_SLOW, _SOON = 1.0, 3600.0
"""Seconds: from which duration on, and below which time to the end of a certificate, a figure is marked."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """What one Envoy sees of one node, between two samples."""

    caller: str
    """The node of the Envoy, or the edge."""
    node: str | None
    """None: the process beside it."""
    healthy: int = 0
    endpoints: int = 0
    calls: float = 0.0
    """A second, as are the figures below."""
    p50: float = math.nan
    p99: float = math.nan
    """In seconds. NaN without calls."""
    failures: float = 0.0
    """Answers 5xx, which gRPC has for failures of the transport only."""
    retries: float = 0.0
    refused: float = 0.0
    """By a circuit breaker."""
    ejected: int = 0
    """Endpoints that are left alone now, after failures."""
    expires: float = math.inf
    """Seconds to the end of the first of the certificates of this connection: its own, and the CA's."""


def pages(addresses: Mapping[str, str]) -> dict[str, str]:
    """Where the metrics of each Envoy are."""
    return {node: f"{at}/metrics/envoy" for node, at in addresses.items()}


def upstreams(caller: str, before: Sample | None, after: Sample | None) -> Iterator[Upstream]:
    """What an Envoy sends calls to: its process, and other nodes."""
    for (cluster,), endpoints in (after.by("envoy_cluster_membership_total", _CLUSTER) if after else {}).items():
        if after and (named := _NAMED.fullmatch(cluster)):
            node = named["node"] if named["way"] == "egress" else None
            yield _upstream(caller, node, {_CLUSTER: cluster}, before or after, after, int(endpoints))


def _upstream(
    caller: str, node: str | None, cluster: Labels, before: Sample, after: Sample, endpoints: int
) -> Upstream:
    elapsed = max(after.at - before.at, 1e-3)

    def rate(name: str, having: Labels = cluster) -> float:
        return since(before.total(name, having), after.total(name, having)) / elapsed

    p50, p99 = (found / 1000 for found in quantiles(before, after, "envoy_cluster_upstream_rq_time", cluster))
    ends = after.by(
        "envoy_cluster_ssl_certificate_expiration_unix_time_seconds", "envoy_tls_certificate", having=cluster
    )
    return Upstream(
        caller,
        node,
        int(after.total("envoy_cluster_membership_healthy", cluster)),
        endpoints,
        rate("envoy_cluster_upstream_rq_total"),
        p50,
        p99,
        rate("envoy_cluster_upstream_rq_xx", {**cluster, "envoy_response_code_class": "5"}),
        rate("envoy_cluster_upstream_rq_retry"),
        # Of calls under way, and of those that wait for a connection.
        rate("envoy_cluster_upstream_rq_active_overflow") + rate("envoy_cluster_upstream_rq_pending_overflow"),
        int(after.total("envoy_cluster_outlier_detection_ejections_active", cluster)),
        min(ends.values(), default=math.inf) - time.time(),
    )


def table(found: Mapping[str, Sequence[Upstream]]) -> Table:
    """For people: by the Envoy that sends."""
    made = Table(box=None, pad_edge=False)
    made.add_column("ENVOY")
    made.add_column("SENDS TO")
    for heading in ("HEALTHY", "CALLS/S", "P50", "P99", "5XX/S", "RETRIES/S", "REFUSED/S", "EJECTED", "CERTIFICATE"):
        made.add_column(heading, justify="right", no_wrap=True)
    for caller, rows in found.items():
        if not rows:
            made.add_row(caller, Text("does not answer", "bold red"))
        for place, one in enumerate(sorted(rows, key=lambda row: row.node or "")):
            made.add_row(
                caller if place == 0 else "",
                one.node or "its process",
                Text(f"{one.healthy}/{one.endpoints}", "green" if one.healthy == one.endpoints else "bold red"),
                f"{one.calls:,.1f}",
                seconds(one.p50, _SLOW),
                seconds(one.p99, _SLOW),
                *(_marked(figure) for figure in (one.failures, one.retries, one.refused)),
                Text(str(one.ejected), "bold red" if one.ejected else "dim"),
                _left(one.expires),
            )
    return made


def _marked(rate: float) -> Text:
    return Text(f"{rate:.1f}", "yellow" if rate else "dim")


def _left(expires: float) -> Text:
    if math.isinf(expires):
        return Text("-", "dim")
    text = f"{expires / 3600:.1f} h" if expires < 48 * 3600 else f"{expires / 86400:.0f} days"
    return Text(text, "bold red" if expires < _SOON else "")
