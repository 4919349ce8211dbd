"""What the head of a request may say, at every listener.

What a caller has no say in is taken off, what can't be read is refused.

grpc core parses the headers of its protocol before a process has a word in it, and answers what it can't parse with
INTERNAL. So the edge refuses it in the words of the contract. A sidecar does the same, since a node may be compromised.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mesh import errors
from mesh.contract import Contract
from mesh.errors import MeshError, Reason, field_invalid
from mesh.render.envoy.access_log import HEALTH_PATH
from mesh.render.envoy.limits import BEYOND_REQUEST_SHARE, BEYOND_SHARE
from mesh.render.envoy.resource import Resource, extension
from mesh.rpc.call import REQUEST_ID_CHARACTERS, REQUEST_ID_LENGTH
from mesh.rpc.codec import HEADER as CODEC

NAME = "envoy.filters.http.rbac.request_head"
TIMEOUT_AS_SENT = "x-authmesh-grpc-timeout"
"""`grpc-timeout` as the caller sent it: Envoy puts the time that a route allows in its place before any filter sees it.
No request takes it further than this Envoy."""

_TIMEOUT = "grpc-timeout"
_ENCODING = "grpc-encoding"
_CONTENT_ENCODING = "content-encoding"
_GRPC_CONTENT = "application/grpc"
_UNREADABLE_NAMES = r"grpc-(?:.?|(?:[^aet].|a[^c]|e[^n]|t[^i]).*)|.*-bin|[^:a-z0-9._-].*|[^:].*[^a-z0-9._-].*"
"""Names that no caller may send: headers of gRPC but `grpc-timeout`, `grpc-encoding` and `grpc-accept-encoding` (RE2
has no look-ahead; two letters tell them from all that grpc core parses), binary ones, whose base64 grpc core parses,
and those with a character that HTTP allows in a name and gRPC does not."""
_UNKNOWN_METHOD = "unknown-method"
_TOO_LARGE = "headers-too-large"
_LARGEST = 16 * 1024
"""Bytes of all headers together: room for a token of 8 KiB and everything else. HTTP/2 has no answer to headers beyond
Envoy's own limit, which is larger: it resets the stream."""

# What others may not tell an Envoy of ours: where a request came from, how long it may take, how often it is tried.
# x-envoy-original-path is set by our own transcoder only: local replies tell JSON by it. The edge's word about the
# client's address goes through an ingress, and nothing else.
_ALL_ORDERS: list[Resource] = [{"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}}]
_ORDERS: list[Resource] = [
    {"remove": f"x-envoy-{name}"}
    for name in (
        "attempt-count",
        "expected-rq-timeout-ms",
        "hedge-on-per-try-timeout",
        "internal",
        "max-retries",
        "original-method",
        "original-path",
        "retriable-header-names",
        "retriable-status-codes",
        "retry-grpc-on",
        "retry-on",
        "upstream-alt-stat-name",
        "upstream-rq-per-try-timeout-ms",
        "upstream-rq-timeout-ms",
        "upstream-stream-duration-ms",
    )
]


@dataclass(frozen=True, slots=True)
class HeadRefusal:
    """One way for the head of a request to be refused."""

    name: str
    """Of the policy, by which the local reply knows it."""
    refusal: MeshError
    http: int
    """Status of the JSON form."""


def _unsupported(message: str) -> errors.Unimplemented:
    return errors.Unimplemented(Reason.NOT_IMPLEMENTED, message)


REFUSALS = (
    HeadRefusal(
        _TIMEOUT, field_invalid(_TIMEOUT, "must be 1 to 8 digits and a unit (H, M, S, m, u, n), as in 15S"), 400
    ),
    HeadRefusal(_ENCODING, _unsupported("compressed requests are not supported: leave grpc-encoding out"), 400),
    HeadRefusal(
        _CONTENT_ENCODING, field_invalid(_CONTENT_ENCODING, "compressed bodies are not supported: leave it out"), 400
    ),
    HeadRefusal(_UNKNOWN_METHOD, _unsupported("the method does not exist"), 404),
    HeadRefusal(
        _TOO_LARGE,
        errors.ResourceExhausted(Reason.MESSAGE_TOO_LARGE, f"the headers are too large: at most {_LARGEST} bytes"),
        431,
    ),
)


def early_mutations(listener: str, *, trust_traces: bool) -> list[Resource]:
    """What is taken off a request before anything else looks at it.

    The edge also gives a new id to a request whose own is not fit for a log.

    Args:
        listener: Which one.
        trust_traces: Whether what callers say of the trace that a request belongs to holds.
    """
    orders = _ORDERS if listener == "ingress" else [*_ALL_ORDERS, {"remove": BEYOND_SHARE}]
    if not trust_traces:
        orders = [*orders, {"remove": "traceparent"}, {"remove": "tracestate"}]
    if listener == "edge":
        orders = [*orders, {"remove": BEYOND_REQUEST_SHARE}]
    unreadable = {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": _UNREADABLE_NAMES}}}}
    # The edge's own script sets it.
    codec = [{"remove": CODEC}] if listener == "edge" else []
    as_sent = [{"remove": TIMEOUT_AS_SENT}, _overwritten(TIMEOUT_AS_SENT, f"%REQ({_TIMEOUT})%")]
    return [*orders, unreadable, *as_sent, *codec, *(_fit_request_id() if listener == "edge" else ())]


def request_head(contract: Contract, *, edge: bool = False) -> Resource:
    """The filter that refuses what can't be read.

    Args:
        contract: The RPCs that exist.
        edge: Whether to refuse a gRPC call of a method that does not exist, too. The edge waits for whole bodies, and a
            client that opens a stream (server reflection) sends none before it has an answer.
    """
    policies = {
        _TIMEOUT: _is_given_and_not(TIMEOUT_AS_SENT, "[0-9]{1,8}[HMSmun]"),
        _ENCODING: _is_given_and_not(_ENCODING, "identity"),
    }
    if edge:
        policies[_CONTENT_ENCODING] = _is_given_and_not(_CONTENT_ENCODING, "identity")
        is_grpc = {"header": {"name": "content-type", "string_match": {"prefix": _GRPC_CONTENT}}}
        policies[_UNKNOWN_METHOD] = {"and_rules": {"rules": [is_grpc, _is_none_of((HEALTH_PATH, *contract.rpcs))]}}
    rules: dict[str, Resource] = {
        name: {"permissions": [rule], "principals": [{"any": True}]} for name, rule in policies.items()
    }
    if edge:
        rules[_TOO_LARGE] = {
            "permissions": [{"any": True}],
            "principals": [{"any": True}],
            "condition": _larger_than(_LARGEST),
        }
    return extension(NAME, "filters.http.rbac.v3.RBAC", rules={"action": "DENY", "policies": rules})


def no_trailers() -> Resource:
    """The filter that takes off what comes behind a body.

    gRPC has nothing there in a request, and grpc core parses it.
    """
    everything = {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": ".*"}}}}
    return extension(
        "envoy.filters.http.header_mutation",
        "filters.http.header_mutation.v3.HeaderMutation",
        mutations={"request_trailers_mutations": [everything]},
    )


def _is_given_and_not(header: str, pattern: str) -> Resource:
    fits = {"header": {"name": header, "string_match": {"safe_regex": {"regex": pattern}}}}
    return {"and_rules": {"rules": [{"header": {"name": header, "present_match": True}}, {"not_rule": fits}]}}


def _is_none_of(paths: Iterable[str]) -> Resource:
    """Of a gRPC call: another path, or another method than POST, which is all that gRPC knows."""
    known = [{"url_path": {"path": {"exact": path}}} for path in paths]
    post = {"header": {"name": ":method", "string_match": {"exact": "POST"}}}
    return {"not_rule": {"and_rules": {"rules": [post, {"or_rules": {"rules": known}}]}}}


def _larger_than(size: int) -> Resource:
    """CEL, parsed, as this filter demands it: `request.total_size > size`, which is the headers while no body came."""
    total = {"select_expr": {"operand": {"ident_expr": {"name": "request"}}, "field": "total_size"}}
    return {"call_expr": {"function": "_>_", "args": [total, {"const_expr": {"int64_value": size}}]}}


def _fit_request_id() -> list[Resource]:
    fit = f"request.id.size() <= {REQUEST_ID_LENGTH} && request.id.matches('^{REQUEST_ID_CHARACTERS}+$')"
    kept = "x-authmesh-request-id"
    return [
        # An empty value is not added, so what is not fit is gone, and Envoy makes an id where there is none.
        {"remove": kept},
        _overwritten(kept, f"%CEL({fit} ? request.id : '')%"),
        {"remove": "x-request-id"},
        _overwritten("x-request-id", f"%REQ({kept})%"),
        {"remove": kept},
    ]


def _overwritten(header: str, value: str) -> Resource:
    return {"append": {"header": {"key": header, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
