"""What Envoy answers by itself, in the words of the contract.

The one table of such answers, and its form for each protocol.

An answer has the same status, reason and details as one of a process, because both are made by
`mesh.rpc.errors.to_status`. gRPC and gRPC-Web get it as headers (`grpc-status`, `grpc-message`,
`grpc-status-details-bin`), JSON as a body.
"""

import base64
import json
import struct
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from google.protobuf import json_format
from google.rpc import code_pb2

from mesh import errors
from mesh.errors import MeshError, Reason, field_invalid
from mesh.render.envoy.limits import REQUEST_TOO_LARGE
from mesh.render.envoy.request_head import REFUSALS
from mesh.render.envoy.resource import Resource, typed
from mesh.rpc.errors import http_headers, to_status

_DETAILS = "response.code_details"
_TOKEN = f"{_DETAILS}.startsWith('jwt_authn_access_denied')"

UNREAD = "x-authmesh-unread"
"""Marks the JSON answer about a request that the transcoder could not read: its body is the transcoder's text, which
quotes the request. `script.edge_script` takes both off."""
UNREADABLE = field_invalid("request", "the body is not JSON of this method's request")
"""What a client learns of such a request while no field is known."""


@dataclass(frozen=True, slots=True)
class LocalReply:
    """One row: when Envoy answers by itself, and what."""

    when: str
    """CEL, over Envoy's `response.code` and `response.code_details`. The first row that holds is taken."""
    refusal: MeshError
    http: int
    """Status of the JSON form."""


TABLE: tuple[LocalReply, ...] = (
    *(
        LocalReply(f"{_DETAILS} == 'rbac_access_denied_matched_policy[{head.name}]'", head.refusal, head.http)
        for head in REFUSALS
    ),
    LocalReply(
        # Another scheme than Bearer is a credential that was not asked for.
        f"{_TOKEN} && ({_DETAILS}.contains('Jwt_is_missing') || "
        f"!request.headers['authorization'].matches('(?i)^bearer .'))",
        errors.Unauthenticated(
            Reason.TOKEN_MISSING, "this method needs an access token: authorization: Bearer <token>"
        ),
        401,
    ),
    LocalReply(
        f"{_TOKEN} && {_DETAILS}.contains('Jwks_remote_fetch')",
        errors.Unavailable(
            Reason.KEYS_UNAVAILABLE,
            "the keys that tokens are verified with are out of reach: keep the token and try again",
        ),
        503,
    ),
    LocalReply(
        f"{_TOKEN} && {_DETAILS}.contains('Jwt_is_expired')",
        errors.Unauthenticated(Reason.TOKEN_EXPIRED, "the access token has expired: refresh it"),
        401,
    ),
    LocalReply(
        # A wrong audience too, which Envoy calls forbidden.
        _TOKEN,
        errors.Unauthenticated(Reason.TOKEN_INVALID, "the access token is not valid"),
        401,
    ),
    LocalReply(
        f"{_DETAILS} == 'rbac_access_denied_matched_policy[{REQUEST_TOO_LARGE}]' || response.code == 413",
        errors.ResourceExhausted(Reason.MESSAGE_TOO_LARGE, "the request is too large"),
        413,
    ),
    LocalReply(
        "response.code == 431",
        errors.ResourceExhausted(Reason.MESSAGE_TOO_LARGE, "the headers are too large"),
        431,
    ),
    LocalReply(
        f"{_DETAILS}.startsWith('rbac_access_denied')",
        errors.PermissionDenied(Reason.CALLER_NOT_ALLOWED, "this caller may not call this method"),
        403,
    ),
    LocalReply(
        f"{_DETAILS} == 'csrf_origin_mismatch'",
        errors.PermissionDenied(
            Reason.CALLER_NOT_ALLOWED, "pages of this origin may not use the refresh token's cookie"
        ),
        403,
    ),
    LocalReply(
        f"{_DETAILS} == 'local_rate_limited'",
        errors.ResourceExhausted(
            Reason.RATE_LIMITED, "too many requests: wait and try again", retry_after=timedelta(seconds=5)
        ),
        429,
    ),
    LocalReply(
        "response.code == 404 || response.code == 405",
        errors.Unimplemented(Reason.NOT_IMPLEMENTED, "the method does not exist"),
        404,
    ),
    LocalReply(
        "response.code == 504 || response.code == 408",
        errors.DeadlineExceeded(Reason.DEADLINE, "the call took too long; whether it had an effect is unknown"),
        504,
    ),
    LocalReply(
        f"{_DETAILS}.contains('overflow') || {_DETAILS}.contains('overload') || {_DETAILS} == "
        f"'reached_concurrency_limit'",
        errors.ResourceExhausted(
            Reason.OVERLOADED, "too much is under way: wait and try again", retry_after=timedelta(seconds=1)
        ),
        429,
    ),
    LocalReply(
        "response.code == 502 || response.code == 503",
        errors.Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "a service needed for this is out of reach: try again"),
        503,
    ),
    LocalReply(
        f"{_DETAILS}.contains('grpc_json_transcode_failure') && response.code == 400",
        UNREADABLE,
        400,
    ),
    LocalReply(
        "response.code >= 400 && response.code < 500",
        errors.InvalidArgument(Reason.FIELD_INVALID, "the request can't be parsed"),
        400,
    ),
    LocalReply(
        "response.code >= 500",
        errors.Internal(Reason.INTERNAL, "something went wrong on our side: tell us the x-request-id of this answer"),
        500,
    ),
)

_CONTENT = "'content-type' in request.headers && request.headers['content-type']"
# The transcoder rewrites the content type and leaves the original path behind; no one else can: listeners drop that
# header when it comes in.
_GRPC = f"{_CONTENT}.startsWith('application/grpc') && !('x-envoy-original-path' in request.headers)"
# Once the bridge has seen a request it is gRPC, and the bridge puts our answer into Connect's words.
_CONNECT = f"'connect-protocol-version' in request.headers && !({_CONTENT}.startsWith('application/grpc'))"
_CONNECT_STREAM = f"{_CONNECT} && {_CONTENT}.startsWith('application/connect+')"
_END_OF_STREAM = 2


def local_reply_config(*, edge: bool = False) -> Resource:
    """The `local_reply_config` of an HTTP connection manager.

    Args:
        edge: Whether it is the edge's, which speaks Connect, and where `script.edge_script` names the field of what the
            transcoder could not read.
    """
    return {"mappers": [mapper for reply in TABLE for mapper in _mappers(reply, edge)]}


def _mappers(reply: LocalReply, edge: bool) -> list[Resource]:
    if edge and reply.refusal is UNREADABLE:
        return [_unread(reply)]
    return [*((_connect_stream(reply), _connect(reply)) if edge else ()), _grpc(reply), _json(reply)]


def _unread(reply: LocalReply) -> Resource:
    return {
        "filter": _cel(reply.when),
        "status_code": reply.http,
        "headers_to_add": _headers({UNREAD: "1"}),
        "body_format_override": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": "application/json",
        },
    }


def _grpc(reply: LocalReply) -> Resource:
    status = to_status(reply.refusal)
    headers = {
        "grpc-status": str(status.code),
        "grpc-message": quote(status.message, safe=" !\"#$&'()*+,/:;<=>?@[\\]^_`{|}~").replace("%", "%%"),
        "grpc-status-details-bin": base64.b64encode(status.SerializeToString()).decode().rstrip("="),
        # A sidecar's answer becomes JSON at the edge.
        **http_headers(reply.refusal),
    }
    # With a body gRPC-Web would get a status made up from the HTTP one; 429 would become UNAVAILABLE.
    return {
        "filter": _cel(f"{_GRPC} && ({reply.when})"),
        "status_code": 200,
        "body": {"inline_string": ""},
        "headers_to_add": _headers(headers),
    }


def _connect(reply: LocalReply) -> Resource:
    return {
        "filter": _cel(f"{_CONNECT} && ({reply.when})"),
        "status_code": reply.http,
        "headers_to_add": _headers(http_headers(reply.refusal)),
        "body_format_override": {"json_format": _connect_error(reply)},
    }


def _connect_stream(reply: LocalReply) -> Resource:
    """An empty stream: its end, as a frame, says why."""
    end = json.dumps({"error": _connect_error(reply)}).encode()
    frame = base64.b64encode(struct.pack(">BI", _END_OF_STREAM, len(end)) + end).decode()
    return {
        "filter": _cel(f"{_CONNECT_STREAM} && ({reply.when})"),
        "status_code": 200,
        "body": {"inline_bytes": frame},
        "headers_to_add": _headers(http_headers(reply.refusal)),
        "body_format_override": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": "application/connect+proto",
        },
    }


def _connect_error(reply: LocalReply) -> dict[str, Any]:
    status = to_status(reply.refusal)
    return {
        "code": code_pb2.Code.Name(status.code).lower(),
        "message": status.message,
        "details": [
            {"type": detail.type_url.rpartition("/")[2], "value": base64.b64encode(detail.value).decode().rstrip("=")}
            for detail in status.details
        ],
    }


def _json(reply: LocalReply) -> Resource:
    body: dict[str, Any] = json.loads(json_format.MessageToJson(to_status(reply.refusal)))
    return {
        "filter": _cel(reply.when),
        "status_code": reply.http,
        "headers_to_add": _headers(http_headers(reply.refusal)),
        "body_format_override": {"json_format": body},
    }


def _headers(headers: dict[str, str]) -> list[Resource]:
    return [
        {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for key, value in headers.items()
    ]


def _cel(expression: str) -> Resource:
    return {
        "extension_filter": {
            "name": "cel",
            "typed_config": typed("access_loggers.filters.cel.v3.ExpressionFilter", expression=expression),
        }
    }
