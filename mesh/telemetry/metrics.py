"""Every metric of a process, by the name that dashboards and alarms have for it.

Labels have few values, all of them ours: methods of the contract, statuses and reasons, kinds of outbox entries. What a
caller sends, and who someone is, is in none (tests/e2e/test_metrics.py).

Names follow https://prometheus.io/docs/practices/naming/.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

REGISTRY = CollectorRegistry(auto_describe=True)
"""Of this process."""
ProcessCollector(registry=REGISTRY)
# A series for when each series began: twice as many, for what no one asks.
disable_created_metrics()  # type: ignore[no-untyped-call] # the library has no types for it

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

RPC_CALLS = Counter(
    "authmesh_rpc_calls",
    "Calls that ended: gRPC status, and the reason where there is one",
    ("service", "method", "status", "reason"),
    registry=REGISTRY,
)
RPC_SECONDS = Histogram(
    "authmesh_rpc_seconds",
    "From a call's arrival in the process to its answer; of a stream, to its end",
    ("service", "method"),
    buckets=_SECONDS,
    registry=REGISTRY,
)
PART_READY = Gauge(
    "authmesh_part_ready",
    "Whether a part that readiness depends on is ready (1) or not (0)",
    ("part",),
    registry=REGISTRY,
)
LOOP_LAG_SECONDS = Histogram(
    "authmesh_loop_lag_seconds",
    "How late the event loop was when it should have done something",
    buckets=_SECONDS,
    registry=REGISTRY,
)
TOKENS_VERIFIED = Counter(
    "authmesh_tokens_verified",
    "Access tokens that were looked at: remembered from an earlier call, or verified anew",
    ("from_memory",),
    registry=REGISTRY,
)
REVOCATION_STALENESS_SECONDS = Gauge(
    "authmesh_revocation_staleness_seconds",
    "Since the moment at which this process knew everything that was revoked",
    registry=REGISTRY,
)
REVOCATIONS_KNOWN = Gauge(
    "authmesh_revocations_known", "Revocations that this process keeps", ("kind",), registry=REGISTRY
)
DATABASE_CONNECTIONS = Gauge(
    "authmesh_database_connections", "Connections of the pool: open, and of those idle", ("state",), registry=REGISTRY
)
OUTBOX_OLDEST_SECONDS = Gauge(
    "authmesh_outbox_oldest_seconds", "Age of the oldest entry that waits, by kind", ("kind",), registry=REGISTRY
)
OUTBOX_PARKED = Gauge(
    "authmesh_outbox_parked", "Entries that were put aside and wait for someone to look at them", registry=REGISTRY
)
HASHES_WAITING = Gauge("authmesh_hashes_waiting", "Callers who wait for their turn at Argon2", registry=REGISTRY)
HASH_SECONDS = Histogram(
    "authmesh_hash_seconds", "Of one Argon2 hash, in its thread", buckets=_SECONDS, registry=REGISTRY
)
CHECKPOINT_SIGNED_TIMESTAMP = Gauge(
    "authmesh_checkpoint_signed_timestamp_seconds", "When the audit trail was last signed", registry=REGISTRY
)
SIGNING_KEYS = Gauge("authmesh_signing_keys", "Signing keys by their state", ("state",), registry=REGISTRY)
SIGNING_KEY_DUE_TIMESTAMP = Gauge(
    "authmesh_signing_key_due_timestamp_seconds",
    "When the next signing key takes over, by schedule or by order",
    registry=REGISTRY,
)
BUILD = Gauge(
    "authmesh_build_info", "Always 1: which node this is, and of which release", ("node", "version"), registry=REGISTRY
)
