"""What `authmesh top` makes of two samples."""

import math
from io import StringIO

import pytest
from rich.console import Console

from mesh.operator.samples import Sample
from mesh.operator.top import Row, row, table

PROCESS = """\
authmesh_rpc_calls_total{{method="SignIn",service="s",status="OK",reason=""}} {good}
authmesh_rpc_calls_total{{method="SignIn",service="s",status="UNAUTHENTICATED",reason="CREDENTIALS_INVALID"}} {bad}
authmesh_rpc_calls_total{{method="Watch",service="s",status="CANCELLED",reason=""}} {left}
authmesh_rpc_seconds_bucket{{method="SignIn",service="s",le="0.01"}} {fast}
authmesh_rpc_seconds_bucket{{method="SignIn",service="s",le="0.1"}} {slow}
authmesh_rpc_seconds_bucket{{method="SignIn",service="s",le="+Inf"}} {slow}
authmesh_part_ready{{part="database"}} {ready}
authmesh_part_ready{{part="keys"}} 1
authmesh_revocation_staleness_seconds 0.5
authmesh_outbox_oldest_seconds{{kind="audit"}} 2
authmesh_outbox_oldest_seconds{{kind="notice"}} 7
process_cpu_seconds_total {cpu}
process_resident_memory_bytes 1048576
"""


def process(at: float, **values: float) -> Sample:
    zero = {"good": 0, "bad": 0, "left": 0, "fast": 0, "slow": 0, "ready": 1, "cpu": 0}
    return Sample.parse(PROCESS.format(**{**zero, **values}), at)


def test_a_row_is_what_happened_between_the_samples() -> None:
    before = process(10, good=100, bad=7, fast=90, slow=107, cpu=3)
    found = row("auth", before, process(12, good=140, bad=11, left=2, fast=120, slow=147, cpu=4))
    assert found.ready is True
    assert found.calls == pytest.approx(23)
    ((reason, rate),) = found.refusals
    assert (reason, rate) == ("CREDENTIALS_INVALID", 2)
    assert found.cpu == pytest.approx(0.5)
    assert found.memory == 2**20
    assert found.staleness == 0.5
    assert found.oldest == 7
    # 30 of 40 were faster than 10 ms: half of all is at two thirds of that bucket.
    assert found.p50 == pytest.approx(0.01 * 20 / 30)
    assert found.p99 == pytest.approx(0.01 + 0.09 * 9.6 / 10)


def test_a_process_that_started_anew_begins_at_nothing() -> None:
    found = row("auth", process(10, good=1000, slow=1000, cpu=50), process(12, good=4, slow=4, cpu=1))
    assert found.calls == pytest.approx(2)
    assert found.cpu == pytest.approx(0.5)


def test_one_part_that_is_not_ready_makes_the_node_so() -> None:
    assert row("auth", process(1), process(2, ready=0)).ready is False


def test_the_edge_tells_of_its_public_listener_only_and_in_milliseconds() -> None:
    text = """\
envoy_http_downstream_rq_total{{envoy_http_conn_manager_prefix="edge"}} {calls}
envoy_http_downstream_rq_total{{envoy_http_conn_manager_prefix="admin"}} 1000
envoy_http_downstream_rq_time_bucket{{envoy_http_conn_manager_prefix="edge",le="5"}} {calls}
envoy_http_downstream_rq_time_bucket{{envoy_http_conn_manager_prefix="edge",le="+Inf"}} {calls}
"""
    found = row("edge", Sample.parse(text.format(calls=10), 0), Sample.parse(text.format(calls=30), 2))
    assert found.calls == pytest.approx(10)
    assert found.p50 == pytest.approx(0.0025)


@pytest.mark.parametrize(
    ("before", "after", "ready"), [(process(1), None, False), (None, process(2), None), (None, None, False)]
)
def test_a_node_that_does_not_answer_is_a_row_as_well(before: Sample, after: Sample, ready: bool | None) -> None:
    found = row("auth", before, after)
    assert (found.ready, found.calls) == (ready, 0)
    assert math.isnan(found.p99)


def test_people_see_what_is_wrong_marked() -> None:
    rows = [
        Row("auth", True, 1234.5, 0.0021, 1.5, [("OVERLOADED", 3.25)], 4.2, 0.0, 0.31, 150 * 2**20),
        Row("token", False, staleness=math.inf),
        Row("edge"),
    ]
    console = Console(width=160, record=True, force_terminal=True, file=StringIO())
    console.print(table(rows))
    text = console.export_text(clear=False)
    auth, token, edge = text.splitlines()[1:4]
    for part in ("yes", "1,234.5", "2.1 ms", "1.5 s", "4.2 s", "31%", "150 MiB", "OVERLOADED 3.2"):
        assert part in auth
    assert "no" in token.split()
    assert "never" in token
    assert edge.split()[:3] == ["edge", "-", "0.0"]
