"""What `authmesh mesh status` makes of two looks at an Envoy's metrics."""

import math
import time
from io import StringIO

import pytest
from rich.console import Console

from mesh.operator.samples import Sample
from mesh.operator.upstreams import Upstream, table, upstreams

ENVOY = """\
envoy_cluster_membership_total{{{to_token}}} 3
envoy_cluster_membership_total{{envoy_cluster_name="cds_ingress_authmesh_auth_grpc_8080"}} 1
envoy_cluster_membership_total{{envoy_cluster_name="cds_metrics_envoy"}} 1
envoy_cluster_membership_healthy{{{to_token}}} 2
envoy_cluster_upstream_rq_total{{{to_token}}} {calls}
envoy_cluster_upstream_rq_xx{{{to_token},envoy_response_code_class="2"}} {calls}
envoy_cluster_upstream_rq_xx{{{to_token},envoy_response_code_class="5"}} {failures}
envoy_cluster_upstream_rq_retry{{{to_token}}} {retries}
envoy_cluster_upstream_rq_pending_overflow{{{to_token}}} {refused}
envoy_cluster_upstream_rq_active_overflow{{{to_token}}} {refused}
envoy_cluster_outlier_detection_ejections_active{{{to_token}}} 1
envoy_cluster_upstream_rq_time_bucket{{{to_token},le="10"}} {calls}
envoy_cluster_upstream_rq_time_bucket{{{to_token},le="+Inf"}} {calls}
{expiration}{{{to_token},envoy_tls_certificate="identity"}} {ends}
{expiration}{{{to_token},envoy_tls_certificate="trust"}} 99999999999
"""
NAMES = {
    "to_token": 'envoy_cluster_name="cds_egress_authmesh_token_grpc_8080"',
    "expiration": "envoy_cluster_ssl_certificate_expiration_unix_time_seconds",
}


def look(at: float, **values: float) -> Sample:
    zero = {"calls": 0, "failures": 0, "retries": 0, "refused": 0, "ends": time.time() + 7200}
    return Sample.parse(ENVOY.format(**NAMES, **{**zero, **values}), at)


def test_a_row_is_what_happened_between_the_looks() -> None:
    before, after = look(10, calls=100), look(12, calls=140, failures=2, retries=4, refused=3)
    to_token, to_process = upstreams("auth", before, after)
    assert (to_token.caller, to_token.node, to_process.node) == ("auth", "token", None)
    assert (to_token.healthy, to_token.endpoints, to_token.ejected) == (2, 3, 1)
    assert (to_token.calls, to_token.failures, to_token.retries, to_token.refused) == (20, 1, 2, 3)
    assert to_token.p50 == pytest.approx(0.005)
    assert to_token.expires == pytest.approx(7200, abs=60)
    assert math.isinf(to_process.expires)
    assert math.isnan(to_process.p50)


def test_an_envoy_that_does_not_answer_has_a_line() -> None:
    drawn = StringIO()
    found = {"auth": list(upstreams("auth", look(1), None)), "user": [Upstream("user", "token", 0, 1, expires=60)]}
    Console(file=drawn, width=200).print(table(found))
    _, auth, user = drawn.getvalue().splitlines()
    assert "does not answer" in auth
    assert "0/1" in user


def test_what_is_bad_is_red() -> None:
    drawn = StringIO()
    bad = Upstream("user", "token", 0, 1, calls=1, p99=2.0, ejected=1, expires=60)
    Console(file=drawn, width=200, force_terminal=True).print(table({"user": [bad]}))
    assert drawn.getvalue().count("\x1b[1;31m") == 4
