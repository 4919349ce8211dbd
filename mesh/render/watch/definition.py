"""Objectives, alarms and panels, in PromQL over the metrics of docs/metrics.md.

Every series has the label `node`, which the scraper gives it (`prometheus.scrape_kubernetes`).
"""

from dataclasses import dataclass

_FAULTS = 'status=~"INTERNAL|UNKNOWN|UNAVAILABLE|DEADLINE_EXCEEDED"'
"""Ends of calls that are our fault. What a caller did wrong is not, and neither is a limit that binds."""
_SIGNED_AGE = (
    'time() - max(authmesh_checkpoint_signed_timestamp_seconds > 0 or process_start_time_seconds{node="audit"})'
)
"""Since the trail was signed. A process that has not signed yet counts from its start: that is not late."""
_KEY_LATE = "time() - max(authmesh_signing_key_due_timestamp_seconds > 0)"
_STALE_SECONDS = 5
_LATE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Objective:
    """A service level objective over 30 days."""

    name: str
    title: str
    objective: float
    """The share that must be good."""
    errors: str = ""
    """The share that is bad, within `{window}`."""
    bad: str = ""
    """Or whether it is bad right now (1) or not (0): the share of time is what counts."""

    @property
    def budget(self) -> float:
        """The share that may be bad."""
        return round(1 - self.objective, 6)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A condition that someone should look at. docs/runbooks.md has a section for each."""

    name: str
    expression: str
    lasting: str
    """How long it must hold."""
    severity: str
    """`page`: now; `ticket`: within days."""
    summary: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph of the dashboard."""

    row: str
    title: str
    unit: str
    """Of Grafana: `s`, `reqps`, `percentunit`, `bytes`, `short`."""
    queries: tuple[tuple[str, str], ...]
    """Legend and expression."""


def _calls(selector: str) -> str:
    """The share of calls that ended by our fault."""
    calls = f"authmesh_rpc_calls_total{{{selector}"
    faults = f"(sum(rate({calls},{_FAULTS}}}[{{window}}])) or vector(0))"
    shed = f'(sum(rate({calls},reason="OVERLOADED"}}[{{window}}])) or vector(0))'
    return f"({faults} + {shed}) / (sum(rate({calls}}}[{{window}}])) > 0 or vector(1))"


OBJECTIVES = (
    Objective("sign_in", "Sign-ins are answered", 0.999, _calls('node="auth",method=~"SignIn|VerifyMfa|FinishSignIn"')),
    Objective("refresh", "Refreshes are answered", 0.9995, _calls('node="token",method="RefreshToken"')),
    Objective(
        "verification",
        "Tokens can be verified",
        0.9995,
        '(sum(rate(authmesh_rpc_calls_total{reason=~"KEYS_UNAVAILABLE|REVOCATION_STALE"}[{window}])) or vector(0))'
        " / (sum(rate(authmesh_rpc_calls_total[{window}])) > 0 or vector(1))",
    ),
    Objective(
        "revocation",
        f"Every process knows of revocations within {_STALE_SECONDS} s",
        0.999,
        bad=f"max(authmesh_revocation_staleness_seconds) > bool {_STALE_SECONDS}",
    ),
    Objective(
        "audit",
        f"Events leave the services within {_LATE_SECONDS} s",
        0.999,
        bad=f"(max(authmesh_outbox_oldest_seconds) or vector(0)) > bool {_LATE_SECONDS}",
    ),
)

ALARMS = (
    Alarm("AuthmeshNodeDown", "up == 0", "2m", "page", "{{ $labels.node }} does not answer its scraper"),
    Alarm(
        "AuthmeshNotReady",
        "min by (node, part) (authmesh_part_ready) == 0",
        "2m",
        "page",
        "{{ $labels.node }} waits for {{ $labels.part }}",
    ),
    Alarm(
        "AuthmeshRevocationStale",
        "max by (node) (authmesh_revocation_staleness_seconds) > 10",
        "1m",
        "page",
        "{{ $labels.node }} has not heard of revocations for {{ $value | humanizeDuration }}",
    ),
    Alarm(
        "AuthmeshOutboxWaits",
        f"max by (node, kind) (authmesh_outbox_oldest_seconds) > {_LATE_SECONDS}",
        "2m",
        "page",
        "{{ $labels.node }} has not delivered {{ $labels.kind }} for {{ $value | humanizeDuration }}",
    ),
    Alarm(
        "AuthmeshOutboxParked",
        "max by (node) (authmesh_outbox_parked) > 0",
        "5m",
        "ticket",
        "{{ $labels.node }} has put {{ $value }} entries of its outbox aside",
    ),
    Alarm(
        "AuthmeshCheckpointLate",
        f"{_SIGNED_AGE} > 900",
        "2m",
        "page",
        "the audit trail was last signed {{ $value | humanizeDuration }} ago",
    ),
    Alarm(
        "AuthmeshOverloaded",
        'sum by (node) (rate(authmesh_rpc_calls_total{reason="OVERLOADED"}[5m])) > 0.5',
        "5m",
        "page",
        "{{ $labels.node }} sheds {{ $value | humanize }} calls a second",
    ),
    Alarm(
        "AuthmeshHashesWait",
        "sum by (node) (authmesh_hashes_waiting) > 50",
        "5m",
        "ticket",
        "{{ $value }} callers wait for a turn at Argon2",
    ),
    Alarm(
        "AuthmeshLoopBlocked",
        "histogram_quantile(0.99, sum by (le, node) (rate(authmesh_loop_lag_seconds_bucket[5m]))) > 0.5",
        "10m",
        "ticket",
        "the event loop of {{ $labels.node }} is late by {{ $value | humanizeDuration }}",
    ),
    Alarm(
        "AuthmeshRefreshReused",
        'sum(increase(authmesh_rpc_calls_total{reason="REFRESH_REUSED"}[10m])) > 5',
        "0m",
        "page",
        "{{ $value | humanize }} refresh tokens were used again within 10 minutes: they may be stolen",
    ),
    Alarm(
        "AuthmeshSigningKeyLate",
        f"{_KEY_LATE} > 3600",
        "10m",
        "page",
        "the next signing key should have taken over {{ $value | humanizeDuration }} ago",
    ),
    Alarm(
        "AuthmeshCertificateEnds",
        "min by (node) (envoy_listener_ssl_certificate_expiration_unix_time_seconds) - time() < 600",
        "1m",
        "page",
        "a certificate of {{ $labels.node }} ends in {{ $value | humanizeDuration }}",
    ),
)

_VERIFIED = "sum by (node) (rate(authmesh_tokens_verified_total{which}[5m]))"
_REMEMBERED = '{from_memory="yes"}'
_EDGE = 'envoy_http_conn_manager_prefix="edge"'


def _edge_waits(quantile: float) -> str:
    buckets = f"envoy_http_downstream_rq_time_bucket{{{_EDGE}}}"
    return f"histogram_quantile({quantile}, sum by (le) (rate({buckets}[5m])))"


PANELS = (
    Panel("Calls", "Calls", "reqps", (("{{node}}", "sum by (node) (rate(authmesh_rpc_calls_total[5m]))"),)),
    Panel(
        "Calls",
        "Slowest call in a hundred",
        "s",
        (("{{node}}", "histogram_quantile(0.99, sum by (le, node) (rate(authmesh_rpc_seconds_bucket[5m])))"),),
    ),
    Panel(
        "Calls",
        "What is refused, and why",
        "reqps",
        (("{{reason}}", 'sum by (reason) (rate(authmesh_rpc_calls_total{status!~"OK|CANCELLED"}[5m]))'),),
    ),
    Panel(
        "Edge",
        "Answers by class",
        "reqps",
        (
            (
                "{{envoy_response_code_class}}xx",
                f"sum by (envoy_response_code_class) (rate(envoy_http_downstream_rq_xx{{{_EDGE}}}[5m]))",
            ),
        ),
    ),
    Panel(
        "Edge",
        "How long clients wait",
        "ms",
        tuple((f"p{percent}", _edge_waits(percent / 100)) for percent in (50, 99)),
    ),
    Panel(
        "Edge",
        "Retries and ejections",
        "short",
        (
            ("retries a second", "sum(rate(envoy_cluster_upstream_rq_retry[5m])) or vector(0)"),
            ("ejected", "sum(envoy_cluster_outlier_detection_ejections_active) or vector(0)"),
        ),
    ),
    Panel(
        "Tokens",
        "How old the knowledge of revocations is",
        "s",
        (("{{node}}", "max by (node) (authmesh_revocation_staleness_seconds)"),),
    ),
    Panel("Tokens", "Revocations kept", "short", (("{{kind}}", "max by (kind) (authmesh_revocations_known)"),)),
    Panel(
        "Tokens",
        "Tokens remembered from an earlier call",
        "percentunit",
        (("{{node}}", f"{_VERIFIED.format(which=_REMEMBERED)} / {_VERIFIED.format(which='')}"),),
    ),
    Panel("Tokens", "Signing keys", "short", (("{{state}}", "max by (state) (authmesh_signing_keys)"),)),
    Panel("Tokens", "Until the next signing key takes over", "s", (("key", f"-({_KEY_LATE})"),)),
    Panel(
        "Passwords",
        "One hash",
        "s",
        (("p99", "histogram_quantile(0.99, sum by (le) (rate(authmesh_hash_seconds_bucket[5m])))"),),
    ),
    Panel("Passwords", "Callers who wait for a turn", "short", (("waiting", "sum(authmesh_hashes_waiting)"),)),
    Panel(
        "Audit",
        "Oldest entry that waits",
        "s",
        (("{{node}} {{kind}}", "max by (node, kind) (authmesh_outbox_oldest_seconds) or vector(0)"),),
    ),
    Panel("Audit", "Entries put aside", "short", (("{{node}}", "max by (node) (authmesh_outbox_parked)"),)),
    Panel(
        "Audit",
        "Since the trail was signed",
        "s",
        (("age", _SIGNED_AGE),),
    ),
    Panel("Processes", "CPU", "percentunit", (("{{node}}", "sum by (node) (rate(process_cpu_seconds_total[5m]))"),)),
    Panel("Processes", "Memory", "bytes", (("{{node}}", "max by (node) (process_resident_memory_bytes)"),)),
    Panel(
        "Processes",
        "Event loop is late by",
        "s",
        (("{{node}}", "histogram_quantile(0.99, sum by (le, node) (rate(authmesh_loop_lag_seconds_bucket[5m])))"),),
    ),
    Panel(
        "Processes",
        "Connections of the database",
        "short",
        (("{{node}} {{state}}", "sum by (node, state) (authmesh_database_connections)"),),
    ),
    Panel(
        "Processes",
        "Until a certificate ends",
        "s",
        (
            (
                "{{node}}",
                "min by (node) (envoy_listener_ssl_certificate_expiration_unix_time_seconds) - time()",
            ),
        ),
    ),
)
