"""App Mesh's vocabulary as data: Mesh, VirtualNode, VirtualRouter, VirtualService, VirtualGateway, GatewayRoute.

`mesh.yaml` is read into these models once; every renderer (`mesh.render`) starts from them. Names and bounds are those
of the `appmesh.k8s.aws/v1beta2` resources, so that they can be rendered back. What App Mesh never had (JWKS, CORS, rate
limits, size limits) is marked "ours" where it stands.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from mesh.model.document import DoesNotFitError, Path_, StrictModel, read_model, unknown
from mesh.spiffe import PATH, PATH_PATTERN, TRUST_DOMAIN_PATTERN, SpiffeIds

DEFAULT_FILE = Path(__file__).parents[1] / "mesh.yaml"

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"


def parse_duration(value: object) -> timedelta:
    """Reads `250ms`, `15s`, `5m` or `1h`.

    Raises:
        ValueError: anything else; a bare number too, because its unit would be a guess.
    """
    if isinstance(value, timedelta):
        # Of a model that was read before, and is put together anew.
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a duration is a number and ms, s, m or h: 250ms, 15s")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def parse_origin(text: str) -> str:
    """Reads the origin of a web page as browsers send it (RFC 6454, 6.1).

    Scheme, host, and port unless it is the scheme's own.

    Raises:
        ValueError: anything else: no page would ever have it. The right form is told where there is one.
    """
    try:
        parts = urlsplit(text)
        name = parts.hostname or ""
        host = f"[{name}]" if ":" in name else name.encode("idna").decode()
        port = f":{parts.port}" if parts.port and parts.port != _DEFAULT_PORTS.get(parts.scheme) else ""
    except ValueError:
        parts, host, port = urlsplit(""), "", ""
    if not parts.scheme or not host or "*" in host:
        raise ValueError(
            f"{text[:100]!r} is not an origin: name each one with scheme and host, as in https://app.example"
        )
    if text != (right := f"{parts.scheme}://{host}{port}"):
        raise ValueError(f"no page has the origin {text[:100]!r}: write {right}")
    return text


Origin = Annotated[str, AfterValidator(parse_origin)]
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["250ms", "15s"]}),
]
Name = Annotated[str, Field(pattern=_NAME)]
Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(ge=1)]


class PortMapping(StrictModel):
    """Where a listener listens."""

    port: Port
    protocol: Literal["grpc", "http2"]


class HealthCheck(StrictModel):
    """Active gRPC health checks (grpc.health.v1) by every client of the node."""

    interval: Duration
    timeout: Duration
    healthy_threshold: Annotated[int, Field(ge=1, le=10)]
    unhealthy_threshold: Annotated[int, Field(ge=1, le=10)]


class GrpcConnectionPool(StrictModel):
    """How much of a node's work may be under way at once, seen from one sidecar."""

    max_requests: Positive


class OutlierDetection(StrictModel):
    """When clients leave an endpoint alone for a while."""

    max_server_errors: Positive
    interval: Duration
    base_ejection_duration: Duration
    max_ejection_percent: Annotated[int, Field(ge=0, le=100)]


class NodeListener(StrictModel):
    """The listener of a virtual node."""

    port_mapping: PortMapping
    health_check: HealthCheck
    connection_pool: GrpcConnectionPool
    outlier_detection: OutlierDetection


class VirtualNode(StrictModel):
    """A service of the mesh: the process and the sidecar beside it.

    Its SPIFFE id is `spiffe://<trust domain>/<name>`, or what `spiffePath` makes of its name.
    """

    name: Name
    listener: NodeListener
    backends: tuple[str, ...] = ()
    """Virtual services that it may call."""


class WeightedTarget(StrictModel):
    """A share of a route's calls."""

    virtual_node: Name
    weight: Annotated[int, Field(ge=0, le=100)]


class GrpcRouteAction(StrictModel):
    """Where the calls of a route go."""

    weighted_targets: Annotated[tuple[WeightedTarget, ...], Field(min_length=1, max_length=10)]

    @model_validator(mode="after")
    def _weights_have_a_sum(self) -> Self:
        if not 1 <= sum(target.weight for target in self.weighted_targets) <= 100:
            raise ValueError("the weights of a route add up to 1..100")
        return self


class GrpcRouteMatch(StrictModel):
    """Which calls a route takes: a proto service, or one method of it."""

    service_name: str
    method_name: str | None = None


class GrpcTimeout(StrictModel):
    """How long a call may take, whatever deadline its caller has set, or none."""

    per_request: Duration
    """For all of a unary call. Server streams are exempt: they end with their caller's deadline and token."""
    idle: Duration
    """For a server stream on which nothing moves, because there is nothing to send or because no one reads it. Longer
    than the heartbeats of every stream."""


class GrpcRetryPolicy(StrictModel):
    """Retries at the caller's egress. Applied to methods that declare an `idempotency_level`, and to no other."""

    max_retries: Annotated[int, Field(ge=0, le=5)]
    per_retry_timeout: Duration
    grpc_retry_events: tuple[
        Literal["cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"], ...
    ] = ()
    http_retry_events: tuple[Literal["stream-error", "gateway-error"], ...] = ()
    tcp_retry_events: tuple[Literal["connection-error"], ...] = ()


class GrpcRoute(StrictModel):
    """One route of a virtual router."""

    match: GrpcRouteMatch
    action: GrpcRouteAction
    timeout: GrpcTimeout
    retry_policy: GrpcRetryPolicy | None = None

    @model_validator(mode="after")
    def _retries_fit_the_timeout(self) -> Self:
        if self.retry_policy and self.retry_policy.per_retry_timeout > self.timeout.per_request:
            raise ValueError("perRetryTimeout is longer than the route's perRequest timeout")
        return self


class Route(StrictModel):
    """A named route."""

    name: Name
    grpc_route: GrpcRoute


class VirtualRouter(StrictModel):
    """Spreads the calls of a virtual service over nodes."""

    name: Name
    port_mapping: PortMapping
    routes: Annotated[tuple[Route, ...], Field(min_length=1)]


class VirtualService(StrictModel):
    """A name that callers use, and the router behind it."""

    name: str
    virtual_router: Name


class GatewayRouteMatch(StrictModel):
    """Which calls from outside a gateway route takes.

    One proto service (App Mesh's gateway routes never match a method).
    """

    service_name: str


class GatewayRoute(StrictModel):
    """Opens one proto service to the outside."""

    name: Name
    match: GatewayRouteMatch
    virtual_service: str


class TokenBucket(StrictModel):
    """`requests` at once, refilled evenly within `interval`."""

    requests: Positive
    interval: Duration

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.requests / self.interval.total_seconds()


class ClientLimit(StrictModel):
    """How much is taken from one client, and from the networks that it may have to itself (ours).

    Buckets nest: a call takes a token from its address, its network and its site. No one is given one IPv6 address, so
    one of IPv6 is a /64. IPv4 has no prefix between an address and a /24 that says anything.
    """

    per_client: TokenBucket
    """For each address (/32; of IPv6, /64)."""
    per_network: TokenBucket
    """For each /24; of IPv6, /56: what a home is given."""
    per_site: TokenBucket
    """For each /24; of IPv6, /48: what a company is given."""
    share: TokenBucket
    """For each site: what it gets however much others send. A call within it is not counted against what all share."""

    @model_validator(mode="after")
    def _wider_is_more(self) -> Self:
        rates = [
            ("share", self.share),
            ("perClient", self.per_client),
            ("perNetwork", self.per_network),
            ("perSite", self.per_site),
        ]
        for (name, bucket), (wider_name, wider) in pairwise(rates):
            if bucket.requests > wider.requests or bucket.rate > wider.rate:
                raise ValueError(f"{name} lets more through than {wider_name}, which holds it")
        return self


class RateLimit(ClientLimit):
    """A local rate limit of the gateway (ours)."""

    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    """RPC paths; each has buckets of its own."""
    total: TokenBucket
    """For all clients of one gateway together, beyond their shares."""


class Cors(StrictModel):
    """Which web pages may call (ours). Origins are exact: scheme, host, port."""

    origins: tuple[Origin, ...] = ()
    max_age: Duration


class VirtualGateway(StrictModel):
    """The public edge. Everything but the listener is ours."""

    name: Name
    port_mapping: PortMapping
    max_request_bytes: Positive
    """Of any RPC. How much each of them takes follows from the field rules of the contract
    (`mesh.render.request_size`)."""
    max_connections: Positive
    max_requests: Positive
    """Under way at once, beyond the shares of `requestLimit`. A further one is refused (RESOURCE_EXHAUSTED
    OVERLOADED)."""
    max_heap_bytes: Positive
    """Near it, what holds most is reset, and new requests are refused (RESOURCE_EXHAUSTED OVERLOADED)."""
    request_limit: ClientLimit
    """For requests of any kind, before anything is kept of them."""
    trusted_hops: Annotated[int, Field(ge=0, le=10)] = 0
    """Proxies in front that append to X-Forwarded-For; 0 when clients connect directly."""
    cors: Cors
    rate_limits: tuple[RateLimit, ...] = ()
    cookie_methods: tuple[str, ...] = ()
    """RPC paths that cookies reach and may be set by. To all others no cookie goes, and from them none comes."""


class Jwks(StrictModel):
    """Where every sidecar gets the keys that tokens are verified with (ours)."""

    virtual_service: str
    path: str


class Tracing(StrictModel):
    """Which calls are traced, where there is a collector (ours)."""

    sampling: Annotated[float, Field(ge=0, le=100)]
    """Percent of the calls that come to the gateway. What they bring about is traced with them."""
    trust_clients: bool = False
    """Whether a client's own `traceparent` and `tracestate` hold. Otherwise they end at the gateway: a stranger would
    choose what is traced."""


class Mesh(StrictModel):
    """The whole mesh."""

    name: Name
    trust_domain: Annotated[str, Field(pattern=TRUST_DOMAIN_PATTERN)]
    spiffe_path: Annotated[str, Field(pattern=PATH_PATTERN)] = PATH
    """Of SPIFFE ids (ours): what comes behind the trust domain, with `{node}` for the name of a node or of the
    gateway."""
    max_connection_duration: Duration
    """Of every connection to an Envoy (ours). Then it is drained: mutual TLS proves who someone is at its beginning
    only, so this bounds how long a connection outlives its certificate."""
    egress_filter: Literal["DROP_ALL"]
    """App Mesh's ALLOW_ALL would let a compromised process call anything; it isn't offered."""
    jwks: Jwks
    tracing: Tracing
    virtual_nodes: Annotated[tuple[VirtualNode, ...], Field(min_length=1)]
    virtual_routers: tuple[VirtualRouter, ...]
    virtual_services: tuple[VirtualService, ...]
    virtual_gateway: VirtualGateway
    gateway_routes: tuple[GatewayRoute, ...]

    @property
    def spiffe_ids(self) -> SpiffeIds:
        """The identities (URI SAN) of the nodes and of the gateway."""
        return SpiffeIds(self.trust_domain, self.spiffe_path)

    @cached_property
    def nodes(self) -> dict[str, VirtualNode]:
        """Virtual nodes by name."""
        return {node.name: node for node in self.virtual_nodes}

    @cached_property
    def services(self) -> dict[str, VirtualService]:
        """Virtual services by name."""
        return {service.name: service for service in self.virtual_services}

    @cached_property
    def routers(self) -> dict[str, VirtualRouter]:
        """Virtual routers by name."""
        return {router.name: router for router in self.virtual_routers}

    def routes_of(self, virtual_service: str) -> tuple[Route, ...]:
        """The routes behind a virtual service."""
        return self.routers[self.services[virtual_service].virtual_router].routes

    def routes_to(self, node: str) -> tuple[Route, ...]:
        """The routes that have a node among their targets."""
        return tuple(route for router in self.virtual_routers for route in router.routes if node in _targets((route,)))

    def backend_nodes(self, node: str) -> tuple[str, ...]:
        """The nodes that a node may call, in the order of mesh.yaml."""
        return tuple(
            dict.fromkeys(name for backend in self.nodes[node].backends for name in _targets(self.routes_of(backend)))
        )

    def peers(self, node: str) -> tuple[str, ...]:
        """The nodes that the sidecar of a node dials: those that it may call, and the one that serves the JWKS."""
        return tuple(dict.fromkeys((*self.backend_nodes(node), self.jwks_node())))

    def opened_nodes(self) -> tuple[str, ...]:
        """The nodes that the gateway leads to, in the order of its routes."""
        behind = (self.routes_of(route.virtual_service) for route in self.gateway_routes)
        return tuple(dict.fromkeys(name for routes in behind for name in _targets(routes)))

    def jwks_node(self) -> str:
        """The node that serves the JWKS."""
        return _targets(self.routes_of(self.jwks.virtual_service))[0]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if faults := [text for _, text in _cross_faults(self.model_dump(by_alias=True))]:
            raise DoesNotFitError("; ".join(faults))
        return self

    @classmethod
    def cross_faults(cls, raw: Any) -> Iterator[tuple[Path_, str]]:
        """Names that are there twice, and names that refer to nothing."""
        return _cross_faults(raw)


def load_mesh(path: Path | None = None) -> Mesh:
    """Reads and checks a mesh definition.

    Args:
        path: The file; the mesh.yaml of this package when None.

    Raises:
        DocumentError: it can't be read, is not YAML, or is not a mesh; the message names the file and the keys.
    """
    return read_model(path or DEFAULT_FILE, Mesh)


def _targets(routes: Sequence[Route]) -> list[str]:
    return [target.virtual_node for route in routes for target in route.grpc_route.action.weighted_targets]


def _cross_faults(raw: Any) -> Iterator[tuple[Path_, str]]:
    """Of a document that may be wrong in other ways as well: what is not as it should be is passed over."""
    named: dict[str, dict[str, int]] = {}
    for key in ("virtualNodes", "virtualRouters", "virtualServices", "gatewayRoutes"):
        named[key] = {}
        for number, item in _items(raw, key):
            name = item.get("name")
            if isinstance(name, str) and name in named[key]:
                yield (key, number, "name"), f"more than one is called {name}"
            elif isinstance(name, str):
                named[key][name] = number
    gateway = _mapping(raw, "virtualGateway").get("name")
    if gateway in named["virtualNodes"]:
        yield ("virtualGateway", "name"), f"a virtual node is called {gateway}, too"

    def refers(path: Path_, name: object, kind: str, key: str) -> Iterator[tuple[Path_, str]]:
        if isinstance(name, str) and name not in named[key]:
            yield path, unknown(kind, name, list(named[key]))

    for number, service in _items(raw, "virtualServices"):
        path: Path_ = ("virtualServices", number, "virtualRouter")
        yield from refers(path, service.get("virtualRouter"), "virtual router", "virtualRouters")
    for number, router in _items(raw, "virtualRouters"):
        for place, route in _items(router, "routes"):
            targets = _items(_mapping(_mapping(route, "grpcRoute"), "action"), "weightedTargets")
            for index, target in targets:
                path = ("virtualRouters", number, "routes", place, "grpcRoute", "action", "weightedTargets", index)
                yield from refers((*path, "virtualNode"), target.get("virtualNode"), "virtual node", "virtualNodes")
        routes = [
            (place, route, _mapping(_mapping(route, "grpcRoute"), "match")) for place, route in _items(router, "routes")
        ]
        yield from _alike(("virtualRouters", number, "routes"), routes)
    opened_routes = [(place, route, _mapping(route, "match")) for place, route in _items(raw, "gatewayRoutes")]
    yield from _alike(("gatewayRoutes",), opened_routes)
    for number, node in _items(raw, "virtualNodes"):
        backends = node.get("backends")
        for index, backend in enumerate(backends if isinstance(backends, list | tuple) else ()):
            path = ("virtualNodes", number, "backends", index)
            yield from refers(path, backend, "virtual service", "virtualServices")
    for number, opened in _items(raw, "gatewayRoutes"):
        path = ("gatewayRoutes", number, "virtualService")
        yield from refers(path, opened.get("virtualService"), "virtual service", "virtualServices")
    keys = _mapping(raw, "jwks").get("virtualService")
    yield from refers(("jwks", "virtualService"), keys, "virtual service", "virtualServices")


def _alike(
    path: Path_, routes: Sequence[tuple[int, Mapping[str, Any], Mapping[str, Any]]]
) -> Iterator[tuple[Path_, str]]:
    """Routes that take the same calls: the second one would never have any."""
    first: dict[tuple[object, object], object] = {}
    names: set[object] = set()
    for place, route, match in routes:
        key, name = (match.get("serviceName"), match.get("methodName")), route.get("name")
        if not (isinstance(key[0], str) and isinstance(key[1], str | None) and isinstance(name, str)):
            continue
        if key in first:
            yield (*path, place, "match"), f"{name} takes the same calls as {first[key]}: take one out"
        first.setdefault(key, name)
        if name in names and len(path) > 1:
            yield (*path, place, "name"), f"more than one is called {name}"
        names.add(name)


def _mapping(raw: Any, key: str) -> Mapping[str, Any]:
    found = raw.get(key) if isinstance(raw, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _items(raw: Any, key: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    found = raw.get(key) if isinstance(raw, Mapping) else None
    for number, item in enumerate(found if isinstance(found, list | tuple) else ()):
        if isinstance(item, Mapping):
            yield number, item
