"""The filters that make JSON and gRPC-Web out of gRPC, and those that answer by themselves."""

import base64
from urllib.parse import urlsplit

from mesh.contract import Contract
from mesh.model.mesh import Mesh
from mesh.render.envoy.placement import Placement
from mesh.render.envoy.resource import Resource, extension, only_with, typed
from mesh.rpc.refresh_cookie import ASKED_BY

CORS = "envoy.filters.http.cors"
TRANSCODER = "envoy.filters.http.grpc_json_transcoder"
CSRF = "envoy.filters.http.csrf"
HEALTH_BRIDGE = "envoy.filters.http.grpc_http1_reverse_bridge"

_PAGES_MAY_SEND = (
    *("authorization", "content-type", "grpc-timeout", ASKED_BY, "x-grpc-web", "x-request-id", "x-user-agent"),
    # W3C Trace Context and Baggage: a page's tracer adds them to every request.
    *("baggage", "traceparent", "tracestate"),
    # A Connect client's.
    *("connect-protocol-version", "connect-timeout-ms"),
)
_RESPONSE_BYTES = 4 * 1024 * 1024


def transcoder(contract: Contract, services: tuple[str, ...], request_bytes: int) -> Resource:
    """JSON for the given proto services, as their `google.api.http` rules say.

    Anything that is not a method or a field is refused.
    """
    return extension(
        TRANSCODER,
        "filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        # Not by its file: where that is, another machine does not know.
        proto_descriptor_bin=base64.b64encode(contract.without_comments).decode(),
        services=list(services),
        auto_mapping=False,
        convert_grpc_status=True,
        print_options={
            "preserve_proto_field_names": False,
            "always_print_enums_as_ints": False,
            "stream_newline_delimited": True,
        },
        request_validation_options={
            "reject_unknown_method": True,
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
        max_request_body_size=request_bytes,
        max_response_body_size=_RESPONSE_BYTES,
    )


def grpc_web() -> Resource:
    """gRPC-Web in, gRPC out."""
    return extension("envoy.filters.http.grpc_web", "filters.http.grpc_web.v3.GrpcWeb")


def connect() -> Resource:
    """Connect in, gRPC out. `script.edge_script` sees to what this filter leaves undone.

    It keeps a unary request until all of it has come, without a bound: put it behind what bounds requests.
    """
    return extension("envoy.filters.http.connect_grpc_bridge", "filters.http.connect_grpc_bridge.v3.FilterConfig")


def cors() -> Resource:
    """Answers preflights; the policy is the virtual host's."""
    return extension(CORS, "filters.http.cors.v3.Cors")


def cors_policy(mesh: Mesh, placement: Placement) -> Resource:
    """Which pages may call.

    Access tokens travel in a header that pages set themselves; the one cookie there is holds the refresh token.
    """
    gateway = mesh.virtual_gateway
    return typed(
        "filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=[{"exact": origin} for origin in _origins(mesh, placement)],
        allow_credentials=True,
        allow_methods="GET,POST,PATCH,DELETE",
        allow_headers=",".join(_PAGES_MAY_SEND),
        expose_headers="grpc-message,grpc-status,grpc-status-details-bin,retry-after,x-request-id",
        max_age=f"{gateway.cors.max_age.total_seconds():.0f}",
    )


def csrf(mesh: Mesh, placement: Placement) -> Resource:
    """Demands that the `origin` of a request for the refresh token's cookie is this host or an allowed page.

    Other requests have no such cookie, and apps send no origin: they are not affected.

    Envoy compares host and port. The scheme is compared by CORS, which no page gets around that sets a header of its
    own, and by the browser: the cookie is SameSite=Strict.
    """
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    hosts = dict.fromkeys(urlsplit(origin).netloc for origin in _origins(mesh, placement))
    policy = extension(
        CSRF,
        "filters.http.csrf.v3.CsrfPolicy",
        filter_enabled=always,
        additional_origins=[{"exact": host} for host in hosts],
    )
    return only_with(ASKED_BY, policy)


def _origins(mesh: Mesh, placement: Placement) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*mesh.virtual_gateway.cors.origins, *placement.cors_origins)))


def liveness(path: str, healthy: tuple[str, ...] = ()) -> Resource:
    """Answers `path` by itself.

    200 while this Envoy takes traffic and the clusters `healthy` are; 503 otherwise, and when it was told to fail its
    health checks.
    """
    return extension(
        "envoy.filters.http.health_check",
        "filters.http.health_check.v3.HealthCheck",
        pass_through_mode=False,
        headers=[{"name": ":path", "string_match": {"exact": path}}],
        **({"cluster_min_healthy_percentages": {name: {"value": 100} for name in healthy}} if healthy else {}),
    )


def health_bridge() -> Resource:
    """Makes the health listener's plain answer a gRPC one. Off but for the route that needs it."""
    bridge = extension(
        HEALTH_BRIDGE,
        "filters.http.grpc_http1_reverse_bridge.v3.FilterConfig",
        content_type="application/x-protobuf",
        withhold_grpc_frames=True,
    )
    return {**bridge, "disabled": True}
