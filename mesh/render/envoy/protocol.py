"""The filters that make JSON and gRPC-Web out of gRPC, and those that bound what comes in."""

import math
from datetime import timedelta
from urllib.parse import urlsplit

from mesh.contract import Contract
from mesh.model import Mesh, RateLimit, TokenBucket
from mesh.render.envoy.placement import Placement
from mesh.render.envoy.resource import Resource, extension, seconds, typed
from mesh.tokens.refresh_cookie import ASKED_BY

CORS = "envoy.filters.http.cors"
CSRF = "envoy.filters.http.csrf"
RATE_LIMIT = "envoy.filters.http.local_ratelimit"
HEALTH_BRIDGE = "envoy.filters.http.grpc_http1_reverse_bridge"

_RESPONSE_BYTES = 4 * 1024 * 1024
_CLIENT_ADDRESSES = 10_000
_IPV6_PREFIX = 64
"""One household's: whoever has one has all its addresses, and would never run out of buckets."""
_SMALLEST_STEP = timedelta(milliseconds=50)


def transcoder(contract: Contract, services: tuple[str, ...], request_bytes: int) -> Resource:
    """JSON for the given proto services, as their `google.api.http` rules say; what is no method or no field is refused."""
    return extension(
        "envoy.filters.http.grpc_json_transcoder",
        "filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor=str(contract.descriptor_file),
        services=list(services),
        auto_mapping=False,
        convert_grpc_status=True,
        print_options={"preserve_proto_field_names": False, "always_print_enums_as_ints": False, "stream_newline_delimited": True},
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


def cors() -> Resource:
    """Answers preflights; the policy is the virtual host's."""
    return extension(CORS, "filters.http.cors.v3.Cors")


def cors_policy(mesh: Mesh, placement: Placement) -> Resource:
    """Which pages may call. Access tokens travel in a header that pages set themselves; the one cookie there is holds the refresh token."""
    gateway = mesh.virtual_gateway
    return typed(
        "filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=[{"exact": origin} for origin in _origins(mesh, placement)],
        allow_credentials=True,
        allow_methods="GET,POST,PATCH,DELETE",
        allow_headers=f"authorization,content-type,grpc-timeout,{ASKED_BY},x-grpc-web,x-request-id,x-user-agent",
        expose_headers="grpc-message,grpc-status,grpc-status-details-bin,retry-after,x-request-id",
        max_age=f"{gateway.cors.max_age.total_seconds():.0f}",
    )


def csrf(mesh: Mesh, placement: Placement) -> Resource:
    """Demands of a request that asks for the refresh token's cookie that its `origin` be this host or one of those that may call. Others have no such
    cookie and no origin: apps are not held against it.

    Envoy compares host and port. The scheme is compared by CORS, which no page gets around that sets a header of its own, and by the browser: the
    cookie is SameSite=Strict.
    """
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    hosts = dict.fromkeys(urlsplit(origin).netloc for origin in _origins(mesh, placement))
    policy = extension(CSRF, "filters.http.csrf.v3.CsrfPolicy", filter_enabled=always, additional_origins=[{"exact": host} for host in hosts])
    header = {"@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": ASKED_BY}
    # Whatever it says: what the process makes of the header is not to be guessed here.
    asked_for = {"input": {"name": "header", "typed_config": header}, "value_match": {"safe_regex": {"google_re2": {}, "regex": ".*"}}}
    skip = {"name": "skip", "typed_config": typed("filters.common.matcher.action.v3.SkipFilter")}
    matcher = {"predicate": {"not_matcher": {"single_predicate": asked_for}}, "on_match": {"action": skip}}
    return {
        "name": CSRF,
        "typed_config": typed(
            "common.matching.v3.ExtensionWithMatcher", extension_config=policy, xds_matcher={"matcher_list": {"matchers": [matcher]}}
        ),
    }


def _origins(mesh: Mesh, placement: Placement) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*mesh.virtual_gateway.cors.origins, *placement.cors_origins)))


def body_limit(request_bytes: int) -> Resource:
    """Takes a request only when all of it has come, and refuses a larger one. Every request of the contract is one message."""
    return extension("envoy.filters.http.buffer", "filters.http.buffer.v3.Buffer", max_request_bytes=request_bytes)


def rate_limiter() -> Resource:
    """Counts nothing by itself; the routes of limited RPCs say what."""
    return extension(RATE_LIMIT, "filters.http.local_ratelimit.v3.LocalRateLimit", stat_prefix="rate_limit")


def rate_limit(limit: RateLimit, name: str, factor: int) -> Resource:
    """The limit of one RPC: a bucket for each client address (of IPv6: each network), and one for all of them."""
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return typed(
        "filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix=name,
        token_bucket=_bucket(limit.total, factor),
        filter_enabled=always,
        filter_enforced=always,
        # An entry without a value is a bucket for each value that comes by.
        descriptors=[{"entries": [{"key": "masked_remote_address"}], "token_bucket": _bucket(limit.per_client, factor)}],
        rate_limits=[{"actions": [{"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": _IPV6_PREFIX}}]}],
        max_dynamic_descriptors=_CLIENT_ADDRESSES,
        always_consume_default_token_bucket=True,
        rate_limited_as_resource_exhausted=True,
    )


def liveness(path: str) -> Resource:
    """Answers `path` by itself: 200 while this Envoy takes traffic, 503 when it was told to fail its health checks."""
    return extension(
        "envoy.filters.http.health_check",
        "filters.http.health_check.v3.HealthCheck",
        pass_through_mode=False,
        headers=[{"name": ":path", "string_match": {"exact": path}}],
    )


def health_bridge() -> Resource:
    """Makes the health listener's plain answer a gRPC one. Off but for the route that needs it."""
    bridge = extension(
        HEALTH_BRIDGE, "filters.http.grpc_http1_reverse_bridge.v3.FilterConfig", content_type="application/x-protobuf", withhold_grpc_frames=True
    )
    return {**bridge, "disabled": True}


def _bucket(bucket: TokenBucket, factor: int) -> Resource:
    # Refilled in small steps (Envoy's smallest is 50 ms), so that a client who has to wait waits for a token and not for the whole interval.
    requests = bucket.requests * factor
    step = max(1, math.ceil(requests * _SMALLEST_STEP / bucket.interval))
    return {"max_tokens": requests, "tokens_per_fill": step, "fill_interval": seconds(bucket.interval * step / requests)}
