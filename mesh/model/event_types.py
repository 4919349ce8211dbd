"""The closed catalogue of audit events, read from the contract."""

from authmesh.audit.v1 import audit_event_pb2
from authmesh.options.v1 import audit_pb2

_PREFIX = "EVENT_TYPE_"


def dotted(name: str) -> str:
    """`EVENT_TYPE_TOKEN_REUSE_DETECTED` as events carry it: `token.reuse_detected`."""
    domain, _, what = name.removeprefix(_PREFIX).lower().partition("_")
    return f"{domain}.{what}"


LEFT_OUT = "left_out"
"""The key of any event that stands for several refusals of one caller: how many others."""
DETAILS = {
    dotted(value.name): frozenset((*value.GetOptions().Extensions[audit_pb2.detail], LEFT_OUT))
    for value in audit_event_pb2.EventType.DESCRIPTOR.values
    if value.number
}
"""The keys that an event may have in `detail`, by its type."""
EVENT_TYPES = frozenset(DETAILS)
"""Every type that an event may have."""
