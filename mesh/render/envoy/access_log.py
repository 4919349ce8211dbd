"""One JSON line for each call that a listener handled. No header that carries a credential, and no query string."""

from mesh.render.envoy.placement import Placement
from mesh.render.envoy.resource import Resource, extension

HEALTH_PATH = "/grpc.health.v1.Health/Check"

_FIELDS = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "request_id": "%REQ(X-REQUEST-ID):64%",
    "trace_id": "%TRACE_ID%",
    "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ:PATH):512%",
    "original_path": "%PATH(NQ:ORIG):512%",
    "protocol": "%PROTOCOL%",
    "route": "%ROUTE_NAME%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "upstream": "%UPSTREAM_HOST%",
    "upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "duration_ms": "%DURATION%",
    "received_bytes": "%BYTES_RECEIVED%",
    "sent_bytes": "%BYTES_SENT%",
    "user_agent": "%REQ(USER-AGENT):256%",
}


def access_log(placement: Placement, listener: str) -> list[Resource]:
    """The access log of a listener.

    Health checks that went well are left out: they are most of the traffic and tell nothing.
    """
    log = extension(
        "envoy.access_loggers.file",
        "access_loggers.file.v3.FileAccessLog",
        path=str(placement.access_log),
        log_format={"json_format": {"listener": listener, **_FIELDS}},
    )
    checked = {
        "header_filter": {"header": {"name": ":path", "string_match": {"exact": HEALTH_PATH}, "invert_match": True}}
    }
    failed = {
        "status_code_filter": {
            "comparison": {"op": "GE", "value": {"default_value": 400, "runtime_key": "access_log.health.status"}}
        }
    }
    return [{**log, "filter": {"or_filter": {"filters": [checked, failed]}}}]
