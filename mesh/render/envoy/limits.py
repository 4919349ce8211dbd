"""The filters that bound what callers can make the edge hold and do, in the order in which a request meets them.

Each follows Envoy's guide for edges, or says why not. `holdings` multiplies out what they let through.
"""

import math
from datetime import timedelta

from mesh.model.mesh import ClientLimit, RateLimit, TokenBucket
from mesh.render.envoy.resource import Resource, extension, only_with, seconds, typed

RATE_LIMIT = "envoy.filters.http.local_ratelimit"
SHARE = f"{RATE_LIMIT}.share"
BUFFER = "envoy.filters.http.buffer"
ANNOUNCED_SIZE = "envoy.filters.http.rbac.announced_size"
ACTUAL_SIZE = "envoy.filters.http.rbac.actual_size"
REQUEST_TOO_LARGE = "request-too-large"
"""The policy of the two; the local reply knows it by this name."""

BEYOND_REQUEST_SHARE = "x-authmesh-beyond-request-share"
BEYOND_SHARE = "x-authmesh-beyond-share"
"""Marks of the edge on requests beyond the share of their site. No one else may set them."""

BUCKETS = 2_048
"""Of each kind; the one that was not used for longest makes room."""

_LOCAL_RATE_LIMIT = "filters.http.local_ratelimit.v3.LocalRateLimit"
_MOST_TOKENS = 2**32 - 1
_PREFIXES = {"client": (32, 64), "network": (24, 56), "site": (24, 48)}
"""Of IPv4 and of IPv6: what one machine, one home and one company can have to itself."""
_SMALLEST_STEP = timedelta(milliseconds=50)


def whole_request(request_bytes: int) -> Resource:
    """Takes a request only when all of it has come, and refuses a larger one than its route lets be.

    Every request of the contract is one message.
    """
    return extension(BUFFER, "filters.http.buffer.v3.Buffer", max_request_bytes=request_bytes)


def announced_size(name: str) -> Resource:
    """Refuses a request by its content-length, before any of it is kept; the routes say what is too much.

    Once more behind `whole_request`, which announces the length of what came without one: it looks at nothing that
    comes with the end of its request. What gRPC-Web announces is taken off with its framing: such a request is refused
    when there is too much of it.
    """
    return extension(name, "filters.http.rbac.v3.RBAC")


def size_limit(request_bytes: int) -> Resource:
    """The configuration of `announced_size` and `whole_request` on a route."""
    too_large = {"name": "content-length", "range_match": {"start": request_bytes + 1, "end": 2**63 - 1}}
    policy = {"permissions": [{"header": too_large}], "principals": [{"any": True}]}
    rules = {"action": "DENY", "policies": {REQUEST_TOO_LARGE: policy}}
    by_length = typed("filters.http.rbac.v3.RBACPerRoute", rbac={"rules": rules})
    return {
        ANNOUNCED_SIZE: by_length,
        ACTUAL_SIZE: by_length,
        BUFFER: typed("filters.http.buffer.v3.BufferPerRoute", buffer={"max_request_bytes": request_bytes}),
    }


def request_limits(limit: ClientLimit, factor: int) -> list[Resource]:
    """Bounds the requests of each client, whatever they are for, before anything is kept of them."""
    return [
        extension(
            f"{RATE_LIMIT}.request_share",
            _LOCAL_RATE_LIMIT,
            **_share(limit, "request_share", BEYOND_REQUEST_SHARE, factor),
        ),
        extension(f"{RATE_LIMIT}.requests", _LOCAL_RATE_LIMIT, **_limit(limit, "requests", factor)),
    ]


def concurrency_limit(requests: int) -> Resource:
    """Bounds the requests that are under way at once, beyond the shares of their sites.

    Envoy's controller looks for the best limit between two; here both are the same. Whole bodies, answers that no one
    reads and streams that stay open all count, from here to the end of their request.
    """
    controller = {
        "concurrency_limit_params": {
            "max_concurrency_limit": requests,
            "min_concurrency_limit": requests,
            "concurrency_update_interval": "60s",
        },
        "min_rtt_calc_params": {"fixed_value": "1s", "min_concurrency": requests},
    }
    limit = extension(
        "envoy.filters.http.adaptive_concurrency",
        "filters.http.adaptive_concurrency.v3.AdaptiveConcurrency",
        gradient_controller_config=controller,
        concurrency_limit_exceeded_status={"code": "TooManyRequests"},
    )
    return only_with(BEYOND_REQUEST_SHARE, limit)


def rate_limiters() -> list[Resource]:
    """Count nothing by themselves; the routes of limited RPCs say what."""
    return [
        extension(SHARE, _LOCAL_RATE_LIMIT, stat_prefix="share"),
        extension(RATE_LIMIT, _LOCAL_RATE_LIMIT, stat_prefix="rate_limit"),
    ]


def rate_limit(limit: RateLimit, name: str, factor: int) -> Resource:
    """The limit of one RPC, for its route.

    Shares first, then what each client may, then what all may beyond their shares.
    """
    return {
        SHARE: typed(_LOCAL_RATE_LIMIT, **_share(limit, f"{name}.share", BEYOND_SHARE, factor)),
        RATE_LIMIT: typed(_LOCAL_RATE_LIMIT, **_limit(limit, name, factor, total=limit.total)),
    }


def _share(limit: ClientLimit, name: str, mark: str, factor: int) -> Resource:
    """Refuses nothing, but marks what is beyond the share of its site."""
    return {
        "stat_prefix": name,
        **_counting([_level("site")], [_buckets_of("site", limit.share, factor)], enforced=False),
        "request_headers_to_add_when_not_enforced": [
            {"header": {"key": mark, "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        ],
    }


def _limit(limit: ClientLimit, name: str, factor: int, total: TokenBucket | None = None) -> Resource:
    levels = {"client": limit.per_client, "network": limit.per_network, "site": limit.per_site}
    actions = [_level(level) for level in levels]
    buckets = [_buckets_of(level, bucket, factor) for level, bucket in levels.items()]
    if total is not None:
        # Envoy takes from the slowest bucket first, and no further when it is empty: what a client's own limit refuses
        # costs the others nothing.
        actions.append({"actions": [{"request_headers": {"header_name": BEYOND_SHARE, "descriptor_key": "total"}}]})
        buckets.append({"entries": [{"key": "total", "value": "1"}], "token_bucket": _bucket(total, factor)})
    return {
        "stat_prefix": name,
        **_counting(actions, buckets, enforced=True),
        "rate_limited_as_resource_exhausted": True,
    }


def _counting(actions: list[Resource], buckets: list[Resource], *, enforced: bool) -> Resource:
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    never = {"default_value": {"numerator": 0, "denominator": "HUNDRED"}}
    return {
        # For what no descriptor is about, and it never runs dry: Envoy demands one.
        "token_bucket": {"max_tokens": _MOST_TOKENS, "tokens_per_fill": _MOST_TOKENS, "fill_interval": "1s"},
        "filter_enabled": always,
        "filter_enforced": always if enforced else never,
        "descriptors": buckets,
        "rate_limits": actions,
        "max_dynamic_descriptors": BUCKETS,
        "always_consume_default_token_bucket": False,
    }


def _level(name: str) -> Resource:
    ipv4, ipv6 = _PREFIXES[name]
    address = {"masked_remote_address": {"v4_prefix_mask_len": ipv4, "v6_prefix_mask_len": ipv6}}
    return {"actions": [{"generic_key": {"descriptor_key": "level", "descriptor_value": name}}, address]}


def _buckets_of(level: str, bucket: TokenBucket, factor: int) -> Resource:
    # An entry without a value is a bucket for each value that comes by.
    entries = [{"key": "level", "value": level}, {"key": "masked_remote_address"}]
    return {"entries": entries, "token_bucket": _bucket(bucket, factor)}


def _bucket(bucket: TokenBucket, factor: int) -> Resource:
    # Refilled in small steps (Envoy's smallest is 50 ms), so that a client who has to wait waits for a token and not
    # for the whole interval.
    requests = bucket.requests * factor
    step = max(1, math.ceil(requests * _SMALLEST_STEP / bucket.interval))
    return {
        "max_tokens": requests,
        "tokens_per_fill": step,
        "fill_interval": seconds(bucket.interval * step / requests),
    }
