"""Routes of a mesh as App Mesh had it, in Envoy's words: matches, weights, timeouts, retries, rewrites."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from mesh.appmesh.model import (
    AppMesh,
    GatewayGrpcMatch,
    GatewayHttpAction,
    GatewayHttpMatch,
    GatewayRoute,
    GrpcMatch,
    GrpcRetryPolicy,
    GrpcRoute,
    HeaderMatch,
    HostnameMatch,
    HttpMatch,
    Listener,
    RetryPolicy,
    Route,
    TcpRoute,
    Timeout,
)
from mesh.render.envoy.resource import Resource, seconds

VIRTUAL_SERVICE_HEADER = "x-app-mesh-virtual-service"
"""By which a gateway that leaves the host as it is tells its egress where a request goes."""
_DEFAULT_TIMEOUT = timedelta(seconds=15)
_LAST = 1000
"""The priority of a route that names none."""
_RETRIABLE = {
    "server-error": [500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511],
    "gateway-error": [502, 503, 504],
    "client-error": [409],
}
_ALL_ATTEMPTS: Resource = {
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
    "host_selection_retry_max_attempts": 5,
}
_DEFAULT_RETRIES: Resource = {
    "retry_on": "unavailable,connect-failure,refused-stream,reset,retriable-status-codes",
    "num_retries": 2,
    "retriable_status_codes": [503],
    **_ALL_ATTEMPTS,
}
"""What App Mesh did where a mesh says nothing of retries."""


def service_ports(mesh: AppMesh, service: str) -> Iterator[tuple[int, str]]:
    """The ports at which callers find a virtual service, and what they speak there."""
    provider = mesh.service(service).provider
    if provider and provider.virtual_router:
        for one in mesh.router(provider.virtual_router).listeners:
            yield one.port_mapping.port, one.port_mapping.protocol
    elif provider and provider.virtual_node:
        for listener in mesh.node(provider.virtual_node).listeners:
            yield listener.port_mapping.port, listener.port_mapping.protocol


def targets(mesh: AppMesh, service: str) -> Iterator[tuple[str, int]]:
    """Nodes and ports behind a virtual service."""
    provider = mesh.service(service).provider
    if provider and provider.virtual_node:
        for listener in mesh.node(provider.virtual_node).listeners:
            yield provider.virtual_node, listener.port_mapping.port
    elif provider and provider.virtual_router:
        for route in mesh.router(provider.virtual_router).routes:
            for target in route.spec.action.weighted_targets:
                yield target.virtual_node, _listener(mesh, target.virtual_node, target.port).port_mapping.port


def upstream_name(mesh: AppMesh, node: str, port: int | None) -> str:
    """The cluster of a node's listener; of its first one where no port is named."""
    mapping = _listener(mesh, node, port).port_mapping
    return f"cds_egress_{mesh.name}_{node}_{mapping.protocol}_{mapping.port}"


def _listener(mesh: AppMesh, node: str, port: int | None) -> Listener:
    listeners = mesh.node(node).listeners
    return next((one for one in listeners if one.port_mapping.port == port), listeners[0])


def slow_routes(mesh: AppMesh, route: Route) -> Iterator[str]:
    """What a route's times can't come to, because something else ends its calls first."""
    spec = route.spec
    if isinstance(spec, TcpRoute):
        return
    limit = _request(spec.timeout)
    retries = spec.retry_policy
    if retries and limit and (retries.max_retries + 1) * retries.per_retry_timeout > limit:
        attempts = (retries.max_retries + 1) * retries.per_retry_timeout
        yield f"its attempts may take {_told(attempts)}, and all of it {_told(limit)}"
    for target in spec.action.weighted_targets:
        ends = _request(_of_listener(_listener(mesh, target.virtual_node, target.port)))
        if ends and (not limit or ends < limit):
            yield f"it allows {_told(limit)}, and the listener of {target.virtual_node} ends calls after {_told(ends)}"


def _told(time: timedelta) -> str:
    return f"{time.total_seconds():g} s" if time else "any time"


def local_route(cluster: str, listener: Listener) -> Resource:
    """From an ingress listener to the process: within the listener's own timeouts."""
    return {"match": {"prefix": "/"}, "route": {"cluster": cluster, **_timeouts(_of_listener(listener))}}


def virtual_host(mesh: AppMesh, service: str, port: int) -> Resource:
    """A virtual service, for those who call it by its name."""
    return {
        "name": service,
        "domains": [service, f"{service}:{port}"],
        "routes": [_with(one, ()) for one in _routes(mesh, service, port)],
    }


def gateway_virtual_hosts(mesh: AppMesh, services: Sequence[str]) -> list[Resource]:
    """Virtual services for a gateway: by their names, and by its header where it leaves the host as it is."""
    by_name, by_header = [], []
    for service in services:
        port = next((port for port, _ in service_ports(mesh, service)), 0)
        routes = list(_routes(mesh, service, port))
        by_name.append({"name": service, "domains": [service], "routes": [_with(one, ()) for one in routes]})
        named = {"name": VIRTUAL_SERVICE_HEADER, "string_match": {"exact": service}}
        by_header += [_with(one, (named,)) for one in routes]
    catch_all = {
        "name": "default_backend",
        "domains": ["*"],
        "routes": by_header,
        "request_headers_to_remove": [VIRTUAL_SERVICE_HEADER],
    }
    return [*by_name, catch_all]


@dataclass(frozen=True, slots=True)
class GatewayRouting:
    """One gateway route."""

    route: GatewayRoute

    def to(self, cluster: str) -> Iterator[Resource]:
        """The routes of Envoy that it comes to: a prefix with and without its slash are two."""
        spec = self.route.spec
        service = spec.action.target.virtual_service
        rewrite = spec.action.rewrite
        keeps_host = bool(rewrite and rewrite.hostname and rewrite.hostname.default_target_hostname == "DISABLED")
        header = {"header": {"key": VIRTUAL_SERVICE_HEADER, "value": service}}
        action = {
            "cluster": cluster,
            # The route of the virtual service ends it.
            "timeout": "0s",
            **({} if keeps_host else {"host_rewrite_literal": service}),
        }
        common = {
            "name": self.route.name,
            **(
                {"request_headers_to_add": [header | {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]}
                if keeps_host
                else {"request_headers_to_remove": [VIRTUAL_SERVICE_HEADER]}
            ),
        }
        hostname = _hostname_headers(spec.match.hostname)
        if isinstance(spec.match, GatewayGrpcMatch):
            match = _path_of_call(spec.match.service_name, None)
            headers = [*hostname, *map(_header, spec.match.metadata)]
            yield {**common, "match": {**match, **_headers(headers)}, "route": action}
            return
        assert isinstance(spec.action, GatewayHttpAction)
        match = _http_path(spec.match)
        more = _http_details(spec.match, hostname)
        for path, rewritten in _rewrites(spec.match, match, spec.action):
            yield {**common, "match": {**path, **more}, "route": {**action, **rewritten}}


def in_order(routes: Sequence[GatewayRoute]) -> list[GatewayRouting]:
    """Gateway routes in the order in which they are asked."""
    return [
        GatewayRouting(one) for one in sorted(routes, key=lambda one: (_priority(one.priority), _vague(one.spec.match)))
    ]


def _rewrites(
    match: GatewayHttpMatch, path: Resource, action: GatewayHttpAction
) -> Iterator[tuple[Resource, Resource]]:
    rewrite = action.rewrite
    if rewrite and rewrite.path:
        whole = {"pattern": {"regex": "^/.*$"}, "substitution": rewrite.path.exact}
        yield path, {"regex_rewrite": whole}
        return
    prefix = match.prefix
    if prefix is None or prefix == "/" or (rewrite and rewrite.prefix and rewrite.prefix.default_prefix == "DISABLED"):
        yield path, {}
        return
    to = rewrite.prefix.value if rewrite and rewrite.prefix and rewrite.prefix.value else "/"
    trimmed = prefix.rstrip("/")
    yield {"prefix": f"{trimmed}/"}, {"prefix_rewrite": to}
    yield {"path": trimmed}, {"prefix_rewrite": to}


def _routes(mesh: AppMesh, service: str, port: int) -> Iterator[Resource]:
    provider = mesh.service(service).provider
    if provider and provider.virtual_node:
        cluster = upstream_name(mesh, provider.virtual_node, port)
        action = {"cluster": cluster, **_timeouts(None), "retry_policy": _DEFAULT_RETRIES}
        yield {"match": {"prefix": "/"}, "route": action}
    elif provider and provider.virtual_router:
        routes = mesh.router(provider.virtual_router).routes
        for route in sorted(routes, key=_order):
            if not isinstance(route.spec, TcpRoute) and route.spec.match.port in (None, port):
                yield _route(mesh, route)


def _route(mesh: AppMesh, route: Route) -> Resource:
    spec = route.spec
    assert not isinstance(spec, TcpRoute)
    if isinstance(spec, GrpcRoute):
        path = _path_of_call(spec.match.service_name, spec.match.method_name)
        match = {**path, **_headers(list(map(_header, spec.match.metadata)))}
    else:
        match = {**_http_path(spec.match), **_http_details(spec.match, [])}
    clusters = [
        {"name": upstream_name(mesh, target.virtual_node, target.port), "weight": target.weight}
        for target in spec.action.weighted_targets
    ]
    retries = _retries(spec.retry_policy) if spec.retry_policy else _DEFAULT_RETRIES
    action = {
        "weighted_clusters": {"clusters": clusters},
        **_timeouts(spec.timeout),
        **({"retry_policy": retries} if retries.get("num_retries") else {}),
    }
    return {"name": route.name, "match": match, "route": action}


def _with(route: Resource, headers: Sequence[Resource]) -> Resource:
    if not headers:
        return route
    return {**route, "match": {**route["match"], "headers": [*route["match"].get("headers", ()), *headers]}}


def _of_listener(listener: Listener) -> Timeout | None:
    found = listener.timeout
    return (found.grpc or found.http or found.http2) if found else None


def _request(found: Timeout | None) -> timedelta:
    return found.per_request if found and found.per_request is not None else _DEFAULT_TIMEOUT


def _timeouts(found: Timeout | None) -> Resource:
    request = _request(found)
    idle = {"idle_timeout": seconds(found.idle)} if found and found.idle is not None else {}
    return {"timeout": seconds(request), **idle}


def _retries(policy: RetryPolicy) -> Resource:
    conditions: list[str] = list(policy.grpc_retry_events) if isinstance(policy, GrpcRetryPolicy) else []
    codes: list[int] = []
    for event in policy.http_retry_events:
        if event == "stream-error":
            conditions.append("refused-stream")
            continue
        # Connections that end without an answer are the server's doing as well.
        conditions += ["reset"] if event != "client-error" else []
        codes += _RETRIABLE[event]
    conditions += ["connect-failure"] if policy.tcp_retry_events else []
    conditions += ["retriable-status-codes"] if codes else []
    return {
        "retry_on": ",".join(dict.fromkeys(conditions)),
        "num_retries": policy.max_retries,
        "per_try_timeout": seconds(policy.per_retry_timeout),
        **({"retriable_status_codes": sorted(dict.fromkeys(codes))} if codes else {}),
        **_ALL_ATTEMPTS,
    }


# Matches


def _path_of_call(service: str | None, method: str | None) -> Resource:
    if service is None:
        return {"prefix": "/"}
    return {"path": f"/{service}/{method}"} if method else {"prefix": f"/{service}/"}


def _http_path(match: HttpMatch) -> Resource:
    if match.path and match.path.exact is not None:
        return {"path": match.path.exact}
    if match.path and match.path.regex is not None:
        return {"safe_regex": {"regex": match.path.regex}}
    return {"prefix": match.prefix or "/"}


def _http_details(match: HttpMatch, headers: Sequence[Resource]) -> Resource:
    found = [*headers, *map(_header, match.headers)]
    if match.method:
        found.append({"name": ":method", "string_match": {"exact": match.method}})
    if match.scheme:
        found.append({"name": ":scheme", "string_match": {"exact": match.scheme}})
    query = [
        {
            "name": one.name,
            **({"string_match": {"exact": one.match.exact}} if one.match else {"present_match": True}),
        }
        for one in match.query_parameters
    ]
    return {**_headers(found), **({"query_parameters": query} if query else {})}


def _headers(found: Sequence[Resource]) -> Resource:
    return {"headers": list(found)} if found else {}


def _header(found: HeaderMatch) -> Resource:
    inverted = {"invert_match": True} if found.invert else {}
    match = found.match
    if match is None:
        return {"name": found.name, "present_match": True, **inverted}
    if match.range is not None:
        return {"name": found.name, "range_match": {"start": match.range.start, "end": match.range.end}, **inverted}
    if match.regex is not None:
        return {"name": found.name, "string_match": {"safe_regex": {"regex": match.regex}}, **inverted}
    kind, value = next(
        (kind, value)
        for kind, value in (("exact", match.exact), ("prefix", match.prefix), ("suffix", match.suffix))
        if value is not None
    )
    return {"name": found.name, "string_match": {kind: value}, **inverted}


def _hostname_headers(found: HostnameMatch | None) -> list[Resource]:
    """What the client asked for, with or without a port."""
    if found is None:
        return []
    name = (found.exact or found.suffix or "").replace(".", r"\.")
    before = "" if found.exact is not None else ".*"
    return [{"name": ":authority", "string_match": {"safe_regex": {"regex": f"{before}{name}(:\\d+)?"}}}]


# Order


def _priority(found: int | None) -> int:
    return _LAST if found is None else found


def _order(route: Route) -> tuple[int, tuple[int, int, int]]:
    spec = route.spec
    return _priority(route.priority), (0, 0, 0) if isinstance(spec, TcpRoute) else _vague(spec.match)


def _vague(match: GrpcMatch | GatewayGrpcMatch | HttpMatch) -> tuple[int, int, int]:
    """Less is more precise: an exact path, then a longer prefix, then more that must be so."""
    if isinstance(match, HttpMatch):
        exact = match.path is not None
        length = len(match.prefix or "")
        more = len(match.headers) + len(match.query_parameters) + (match.method is not None)
    else:
        exact = isinstance(match, GrpcMatch) and match.method_name is not None
        length, more = len(match.service_name or ""), len(match.metadata)
    return (0 if exact else 1), -length, -more
