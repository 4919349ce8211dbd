"""All of `appmesh.k8s.aws/v1beta2` as data, with the structure of its resources.

Names stand where the resources have references, and durations are written `250ms`, `15s`. Bounds are those of the CRDs.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mesh.model.document import DoesNotFitError, Path_, StrictModel, unknown
from mesh.model.mesh import Duration, Port, Positive

ResourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")]
FilePath = Annotated[str, Field(min_length=1, max_length=255)]
Weight = Annotated[int, Field(ge=0, le=100)]
Priority = Annotated[int, Field(ge=0, le=1000)]
Threshold = Annotated[int, Field(ge=2, le=10)]
WEIGHTS = 100
"""The most that the weights of a route add up to."""

Protocol = Literal["grpc", "http", "http2", "tcp"]
GrpcEvent = Literal["cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"]
HttpEvent = Literal["server-error", "gateway-error", "client-error", "stream-error"]
Method = Literal["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"]


class OneOf(StrictModel):
    """Holds exactly one of its fields."""

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        held = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(held) != 1:
            known = ", ".join(field.alias or name for name, field in type(self).model_fields.items())
            raise ValueError(f"exactly one of these stands here: {known}")
        return self


# TLS


class FileCertificate(StrictModel):
    """Of files beside Envoy."""

    certificate_chain: FilePath
    private_key: FilePath


class AcmCertificate(StrictModel):
    """Of AWS Certificate Manager: App Mesh's control plane brought it to Envoys, and nothing else can."""

    certificate_arn: Annotated[str, Field(alias="certificateARN")]


class Sds(StrictModel):
    """Of a secret discovery service on a unix socket, as SPIRE's agent is one."""

    secret_name: Annotated[str, Field(min_length=1)]


class Certificate(OneOf):
    """What this side shows."""

    acm: AcmCertificate | None = None
    file: FileCertificate | None = None
    sds: Sds | None = None


class FileTrust(StrictModel):
    """A bundle of CAs in a file."""

    certificate_chain: FilePath


class AcmTrust(StrictModel):
    """CAs of AWS Private CA."""

    certificate_authority_arns: Annotated[
        tuple[str, ...], Field(alias="certificateAuthorityARNs", min_length=1, max_length=3)
    ]


class Trust(OneOf):
    """Who the certificates of the other side must be from."""

    acm: AcmTrust | None = None
    file: FileTrust | None = None
    sds: Sds | None = None


class ExactNames(StrictModel):
    """Names of which the certificate must have one."""

    exact: Annotated[tuple[str, ...], Field(min_length=1)]


class SubjectAlternativeNames(StrictModel):
    """Which names the other side may have."""

    match: ExactNames


class Validation(StrictModel):
    """What the other side must show."""

    trust: Trust
    subject_alternative_names: SubjectAlternativeNames | None = None


class ListenerTls(StrictModel):
    """Whether a listener takes TLS only, also, or never. With `validation`, the client must show a certificate."""

    mode: Literal["STRICT", "PERMISSIVE", "DISABLED"]
    certificate: Certificate
    validation: Validation | None = None


class ClientTls(StrictModel):
    """How an Envoy calls."""

    enforce: bool = True
    ports: tuple[Port, ...] = ()
    """Those that it holds for; all when empty."""
    certificate: Certificate | None = None
    validation: Validation


class ClientPolicy(StrictModel):
    """For all backends, or for one."""

    tls: ClientTls | None = None


class BackendDefaults(StrictModel):
    """For backends that say nothing else."""

    client_policy: ClientPolicy | None = None


# Listeners


class PortMapping(StrictModel):
    """Where the process listens, and what it speaks."""

    port: Port
    protocol: Protocol


class HealthCheck(StrictModel):
    """By every client of the node."""

    protocol: Protocol
    interval: Duration
    timeout: Duration
    healthy_threshold: Threshold
    unhealthy_threshold: Threshold
    port: Port | None = None
    path: str | None = None
    """Of HTTP."""


class Timeout(StrictModel):
    """0s sets it off; nothing said is App Mesh's default: 15 s for a request, 300 s idle."""

    per_request: Duration | None = None
    idle: Duration | None = None


class TcpTimeout(StrictModel):
    """Of connections."""

    idle: Duration | None = None


class Timeouts(OneOf):
    """By the protocol of the listener."""

    grpc: Timeout | None = None
    http: Timeout | None = None
    http2: Timeout | None = None
    tcp: TcpTimeout | None = None


class MaxRequests(StrictModel):
    """At once."""

    max_requests: Positive


class HttpPool(StrictModel):
    """Of HTTP/1.1."""

    max_connections: Positive
    max_pending_requests: Positive | None = None


class TcpPool(StrictModel):
    """Of TCP."""

    max_connections: Positive


class ConnectionPool(OneOf):
    """By the protocol of the listener."""

    grpc: MaxRequests | None = None
    http: HttpPool | None = None
    http2: MaxRequests | None = None
    tcp: TcpPool | None = None


class OutlierDetection(StrictModel):
    """When clients leave an endpoint alone for a while."""

    max_server_errors: Positive
    interval: Duration
    base_ejection_duration: Duration
    max_ejection_percent: Annotated[int, Field(ge=0, le=100)]


class Listener(StrictModel):
    """Of a virtual node."""

    port_mapping: PortMapping
    health_check: HealthCheck | None = None
    timeout: Timeouts | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ListenerTls | None = None

    @model_validator(mode="after")
    def _fits_its_protocol(self) -> Self:
        protocol, port = self.port_mapping.protocol, self.port_mapping.port
        for name, one in (("timeout", self.timeout), ("connectionPool", self.connection_pool)):
            if one is not None and getattr(one, protocol) is None:
                raise ValueError(f"{name} is of another protocol than portMapping, which says {protocol}")
        if self.health_check and self.health_check.port not in (None, port):
            raise ValueError(f"healthCheck.port is another one than portMapping's: {port}")
        return self


class GatewayListener(StrictModel):
    """Of a virtual gateway."""

    port_mapping: PortMapping
    health_check: HealthCheck | None = None
    connection_pool: ConnectionPool | None = None
    tls: ListenerTls | None = None

    @model_validator(mode="after")
    def _is_no_tcp(self) -> Self:
        if self.port_mapping.protocol == "tcp":
            raise ValueError("a gateway takes grpc, http and http2")
        return self


# Nodes


class Dns(StrictModel):
    """A name in DNS. With LOADBALANCER one of its addresses is used at a time, with ENDPOINTS each is an endpoint."""

    hostname: Annotated[str, Field(min_length=1)]
    response_type: Literal["LOADBALANCER", "ENDPOINTS"] = "LOADBALANCER"


class Attribute(StrictModel):
    """Of an instance in Cloud Map."""

    key: str
    value: str


class CloudMap(StrictModel):
    """A service of AWS Cloud Map."""

    namespace_name: str
    service_name: str
    attributes: tuple[Attribute, ...] = ()


class ServiceDiscovery(OneOf):
    """Where the endpoints of a node are."""

    dns: Dns | None = None
    aws_cloud_map: CloudMap | None = None


class Backend(StrictModel):
    """A virtual service that a node calls."""

    virtual_service: str
    client_policy: ClientPolicy | None = None


class JsonField(StrictModel):
    """A field of a line, and what of the request it holds."""

    key: str
    value: str


class LogFormat(OneOf):
    """Of a line."""

    text: str | None = None
    json_: Annotated[tuple[JsonField, ...] | None, Field(alias="json")] = None


class LogFile(StrictModel):
    """Where lines go."""

    path: FilePath
    format: LogFormat | None = None


class AccessLog(StrictModel):
    """A line for each request."""

    file: LogFile


class Logging(StrictModel):
    """What an Envoy writes down."""

    access_log: AccessLog | None = None


class VirtualNode(StrictModel):
    """A service, and the Envoy beside it. One without listeners only calls."""

    name: ResourceName
    listeners: tuple[Listener, ...] = ()
    service_discovery: ServiceDiscovery | None = None
    backends: tuple[Backend, ...] = ()
    backend_defaults: BackendDefaults | None = None
    logging: Logging | None = None

    @model_validator(mode="after")
    def _can_be_found(self) -> Self:
        if self.listeners and self.service_discovery is None:
            raise ValueError("serviceDiscovery is missing: who calls the listeners has to find them")
        return self


# Routes


class Range(StrictModel):
    """From `start` on, and before `end`."""

    start: int
    end: int


class ValueMatch(OneOf):
    """What the value must be like."""

    exact: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    regex: str | None = None
    range: Range | None = None


class HeaderMatch(StrictModel):
    """A header, or an entry of gRPC metadata. Without `match` it must only be there."""

    name: Annotated[str, Field(min_length=1, max_length=50)]
    invert: bool = False
    match: ValueMatch | None = None


class GrpcMatch(StrictModel):
    """Which calls a route takes."""

    service_name: str | None = None
    method_name: Annotated[str | None, Field(min_length=1, max_length=50)] = None
    metadata: Annotated[tuple[HeaderMatch, ...], Field(max_length=10)] = ()
    port: Port | None = None

    @model_validator(mode="after")
    def _is_of_a_service(self) -> Self:
        if self.method_name and not self.service_name:
            raise ValueError("serviceName is missing: a method belongs to a proto service")
        return self


class PathMatch(OneOf):
    """Of a request."""

    exact: str | None = None
    regex: str | None = None


class ExactMatch(StrictModel):
    """Of a parameter."""

    exact: str


class QueryParameterMatch(StrictModel):
    """A parameter of the query. Without `match` it must only be there."""

    name: str
    match: ExactMatch | None = None


class HttpMatch(StrictModel):
    """Which requests a route takes."""

    prefix: str | None = None
    path: PathMatch | None = None
    method: Method | None = None
    scheme: Literal["http", "https"] | None = None
    headers: Annotated[tuple[HeaderMatch, ...], Field(max_length=10)] = ()
    query_parameters: Annotated[tuple[QueryParameterMatch, ...], Field(max_length=10)] = ()
    port: Port | None = None

    @model_validator(mode="after")
    def _has_one_path(self) -> Self:
        if self.prefix is not None and self.path is not None:
            raise ValueError("prefix and path exclude each other")
        return self


class TcpMatch(StrictModel):
    """Which connections a route takes."""

    port: Port | None = None


class WeightedTarget(StrictModel):
    """A share of a route's calls."""

    virtual_node: ResourceName
    weight: Weight
    port: Port | None = None
    """Of the node, where it has several listeners."""


class Action(StrictModel):
    """Where the calls of a route go."""

    weighted_targets: Annotated[tuple[WeightedTarget, ...], Field(min_length=1, max_length=10)]

    @model_validator(mode="after")
    def _weights_have_a_sum(self) -> Self:
        if not 1 <= sum(target.weight for target in self.weighted_targets) <= WEIGHTS:
            raise ValueError(f"the weights of a route add up to 1..{WEIGHTS}")
        return self


class RetryPolicy(StrictModel):
    """Attempts after the first one, for what events, and how long each may take."""

    max_retries: Annotated[int, Field(ge=0)]
    per_retry_timeout: Duration
    http_retry_events: tuple[HttpEvent, ...] = ()
    tcp_retry_events: tuple[Literal["connection-error"], ...] = ()

    @property
    def events(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.http_retry_events, *self.tcp_retry_events)

    @model_validator(mode="after")
    def _has_an_event(self) -> Self:
        if not self.events:
            raise ValueError("a retry policy names at least one event")
        return self


class GrpcRetryPolicy(RetryPolicy):
    """Of gRPC."""

    grpc_retry_events: tuple[GrpcEvent, ...] = ()

    @property
    def events(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.grpc_retry_events, *super().events)


class GrpcRoute(StrictModel):
    """A route for gRPC."""

    match: GrpcMatch
    action: Action
    retry_policy: GrpcRetryPolicy | None = None
    timeout: Timeout | None = None


class HttpRoute(StrictModel):
    """A route for HTTP/1.1 or HTTP/2."""

    match: HttpMatch
    action: Action
    retry_policy: RetryPolicy | None = None
    timeout: Timeout | None = None


class TcpRoute(StrictModel):
    """A route for connections."""

    match: TcpMatch | None = None
    action: Action
    timeout: TcpTimeout | None = None


class Route(StrictModel):
    """Exactly one route, with its name. The lowest priority is asked first."""

    name: ResourceName
    priority: Priority | None = None
    grpc_route: GrpcRoute | None = None
    http_route: HttpRoute | None = None
    http2_route: HttpRoute | None = None
    tcp_route: TcpRoute | None = None

    @property
    def spec(self) -> GrpcRoute | HttpRoute | TcpRoute:
        """The one that it has."""
        return next(one for one in self._routes() if one is not None)

    def _routes(self) -> tuple[GrpcRoute | HttpRoute | TcpRoute | None, ...]:
        return self.grpc_route, self.http_route, self.http2_route, self.tcp_route

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if len([one for one in self._routes() if one is not None]) != 1:
            raise ValueError("exactly one of these stands here: grpcRoute, httpRoute, http2Route, tcpRoute")
        return self


class RouterListener(StrictModel):
    """Where callers think that the service is."""

    port_mapping: PortMapping


class VirtualRouter(StrictModel):
    """Spreads the calls of a virtual service over nodes."""

    name: ResourceName
    listeners: Annotated[tuple[RouterListener, ...], Field(min_length=1)]
    routes: tuple[Route, ...] = ()


class Provider(OneOf):
    """What is behind a virtual service."""

    virtual_node: ResourceName | None = None
    virtual_router: ResourceName | None = None


class VirtualService(StrictModel):
    """The name that callers use: they send it as `:authority` or Host."""

    name: ResourceName
    provider: Provider | None = None


# Gateways


class VirtualGateway(StrictModel):
    """Where calls come into the mesh."""

    name: ResourceName
    listeners: Annotated[tuple[GatewayListener, ...], Field(min_length=1)]
    backend_defaults: BackendDefaults | None = None
    logging: Logging | None = None


class HostnameMatch(OneOf):
    """Of the host that the client asked for."""

    exact: str | None = None
    suffix: str | None = None


class GatewayGrpcMatch(StrictModel):
    """Which calls a gateway route takes. A method is never matched here."""

    service_name: str | None = None
    hostname: HostnameMatch | None = None
    metadata: Annotated[tuple[HeaderMatch, ...], Field(max_length=10)] = ()
    port: Port | None = None

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if self.service_name is None and self.hostname is None:
            raise ValueError("serviceName or hostname is missing")
        return self


class GatewayHttpMatch(HttpMatch):
    """Which requests a gateway route takes."""

    hostname: HostnameMatch | None = None


class GatewayTarget(StrictModel):
    """Where they go."""

    virtual_service: ResourceName
    port: Port | None = None


class HostnameRewrite(StrictModel):
    """ENABLED: the node sees the name of the virtual service; DISABLED: what the client asked for."""

    default_target_hostname: Literal["ENABLED", "DISABLED"]


class PrefixRewrite(OneOf):
    """Of the matched prefix: `/` by default."""

    default_prefix: Literal["ENABLED", "DISABLED"] | None = None
    value: Annotated[str | None, Field(pattern=r"^/(.*/)?$")] = None


class PathRewrite(StrictModel):
    """Of the whole path."""

    exact: str


class GrpcRewrite(StrictModel):
    """What of a call is changed on its way."""

    hostname: HostnameRewrite | None = None


class HttpRewrite(StrictModel):
    """What of a request is changed on its way."""

    hostname: HostnameRewrite | None = None
    prefix: PrefixRewrite | None = None
    path: PathRewrite | None = None


class GatewayGrpcAction(StrictModel):
    """Where calls go, and as what."""

    target: GatewayTarget
    rewrite: GrpcRewrite | None = None


class GatewayHttpAction(StrictModel):
    """Where requests go, and as what."""

    target: GatewayTarget
    rewrite: HttpRewrite | None = None


class GatewayGrpcRoute(StrictModel):
    """For gRPC."""

    match: GatewayGrpcMatch
    action: GatewayGrpcAction


class GatewayHttpRoute(StrictModel):
    """For HTTP."""

    match: GatewayHttpMatch
    action: GatewayHttpAction


class GatewayRoute(StrictModel):
    """Opens a virtual service to the outside."""

    name: ResourceName
    virtual_gateway: ResourceName
    priority: Priority | None = None
    grpc_route: GatewayGrpcRoute | None = None
    http_route: GatewayHttpRoute | None = None
    http2_route: GatewayHttpRoute | None = None

    @property
    def spec(self) -> GatewayGrpcRoute | GatewayHttpRoute:
        """The one that it has."""
        return next(one for one in self._routes() if one is not None)

    def _routes(self) -> tuple[GatewayGrpcRoute | GatewayHttpRoute | None, ...]:
        return self.grpc_route, self.http_route, self.http2_route

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if len([one for one in self._routes() if one is not None]) != 1:
            raise ValueError("exactly one of these stands here: grpcRoute, httpRoute, http2Route")
        return self


class AppMesh(StrictModel):
    """A whole mesh, as App Mesh had it."""

    authorization: Literal["none"]
    """Marks a mesh without access rules: backends and certificates say who may call what."""
    name: ResourceName
    egress_filter: Literal["ALLOW_ALL", "DROP_ALL"] = "DROP_ALL"
    ip_preference: Literal["IPv4_ONLY", "IPv6_ONLY", "IPv4_PREFERRED", "IPv6_PREFERRED"] | None = None
    virtual_nodes: tuple[VirtualNode, ...] = ()
    virtual_routers: tuple[VirtualRouter, ...] = ()
    virtual_services: tuple[VirtualService, ...] = ()
    virtual_gateways: tuple[VirtualGateway, ...] = ()
    gateway_routes: tuple[GatewayRoute, ...] = ()

    def node(self, name: str) -> VirtualNode:
        """The virtual node of that name."""
        return next(one for one in self.virtual_nodes if one.name == name)

    def router(self, name: str) -> VirtualRouter:
        """The virtual router of that name."""
        return next(one for one in self.virtual_routers if one.name == name)

    def service(self, name: str) -> VirtualService:
        """The virtual service of that name."""
        return next(one for one in self.virtual_services if one.name == name)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if faults := [text for _, text in _cross_faults(self.model_dump(by_alias=True, exclude_none=True))]:
            raise DoesNotFitError("; ".join(faults))
        return self

    @classmethod
    def cross_faults(cls, raw: Any) -> Iterator[tuple[Path_, str]]:
        """Names that are there twice, and names that refer to nothing."""
        return _cross_faults(raw)


_KINDS = {
    "virtualNodes": "virtual node",
    "virtualRouters": "virtual router",
    "virtualServices": "virtual service",
    "virtualGateways": "virtual gateway",
    "gatewayRoutes": "gateway route",
}
_REFERENCES = {
    "virtualNode": "virtualNodes",
    "virtualRouter": "virtualRouters",
    "virtualService": "virtualServices",
    "virtualGateway": "virtualGateways",
}


def _cross_faults(raw: Any) -> Iterator[tuple[Path_, str]]:
    """Of a document that may be wrong in other ways as well."""
    if not isinstance(raw, Mapping):
        return
    names: dict[str, list[str]] = {}
    for key in _KINDS:
        found = raw.get(key, ())
        items = found if isinstance(found, list | tuple) else ()
        named = [one["name"] for one in items if isinstance(one, Mapping) and isinstance(one.get("name"), str)]
        names[key] = named
        for name, count in Counter(named).items():
            if count > 1:
                yield (key, named.index(name), "name"), f"more than one {_KINDS[key]} is called {name}"
    yield from _dangling((), raw, names)


def _dangling(path: Path_, value: Any, names: Mapping[str, list[str]]) -> Iterator[tuple[Path_, str]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            kind = _REFERENCES.get(key)
            if kind and isinstance(one, str) and one not in names[kind]:
                yield (*path, key), unknown(_KINDS[kind], one, names[kind])
            else:
                yield from _dangling((*path, key), one, names)
    elif isinstance(value, list | tuple):
        for place, one in enumerate(value):
            yield from _dangling((*path, place), one, names)
