"""The closed catalogue of audit events, read from the contract."""

from authmesh.audit.v1 import audit_event_pb2

_PREFIX = "EVENT_TYPE_"


def dotted(name: str) -> str:
    """`EVENT_TYPE_TOKEN_REUSE_DETECTED` as events carry it: `token.reuse_detected`."""
    domain, _, what = name.removeprefix(_PREFIX).lower().partition("_")
    return f"{domain}.{what}"


EVENT_TYPES = frozenset(dotted(name) for name, number in audit_event_pb2.EventType.items() if number)
"""Every type that an event may have."""
