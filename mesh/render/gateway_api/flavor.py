"""Implementations of Gateway API: what each has beside its routes, and what of the mesh it can't hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from mesh.contract import Contract, Rpc
from mesh.model.agreement import callers, rpcs_of
from mesh.model.mesh import GatewayRoute, GrpcRetryPolicy, Mesh, OutlierDetection
from mesh.render.envoy.placement import TokenRules
from mesh.render.gateway_api.routes import API, backend_tls, grpc_route
from mesh.render.kubernetes.objects import Object, kind, selector

_EVERYWHERE = (
    "the revocation of tokens: processes see to it, nothing before them does",
    "the forwarded identity of the caller (x-forwarded-client-cert), without which processes refuse every call",
    "rate limits by client, network and site",
    "limits of a request's size by method, of connections and of memory",
    "JSON and gRPC-Web at the gateway, and cookies: its routes take gRPC alone",
    "the longest duration of a connection",
)


class Flavor(Protocol):
    """One implementation."""

    @property
    def name(self) -> str:
        """Its name on the command line."""

    @property
    def class_name(self) -> str:
        """GatewayClass of the edge."""

    @property
    def lost(self) -> tuple[str, ...]:
        """What it has no words for."""

    def policies(self, mesh: Mesh, contract: Contract, tokens: TokenRules, namespace: str) -> list[Object]:
        """Its own objects."""


@dataclass(frozen=True, slots=True)
class Istio:
    """Istio: a mesh as well as a gateway."""

    name: str = "istio"
    class_name: str = "istio"
    lost: tuple[str, ...] = (
        "timeouts and retries of routes: GRPCRoute has neither, and Istio's own would take the routes' place",
        "active health checks: a pod is ready, or it gets no calls",
        "CORS: GRPCRoute has none",
        *_EVERYWHERE,
    )

    def policies(self, mesh: Mesh, contract: Contract, tokens: TokenRules, namespace: str) -> list[Object]:
        """Routes between nodes, mutual TLS, breakers, and who may call what."""
        return [
            kind("security.istio.io/v1", "PeerAuthentication", "default", spec={"mtls": {"mode": "STRICT"}}),
            _tokens(mesh, tokens),
            _tokens_demanded(mesh, contract),
            *(between_nodes(mesh, router) for router in sorted({one.virtual_router for one in mesh.virtual_services})),
            *(_destination(mesh, node, namespace) for node in mesh.nodes),
            *(_allowed(mesh, contract, node, namespace) for node in mesh.nodes),
        ]


def between_nodes(mesh: Mesh, router: str) -> Object:
    """A route whose parent is the Service that callers dial (GAMMA, GEP-1294)."""
    parent = {"group": "", "kind": "Service", "name": router}
    return grpc_route(mesh, f"{router}-mesh", parent, mesh.routers[router].routes)


def _destination(mesh: Mesh, node: str, namespace: str) -> Object:
    listener = mesh.nodes[node].listener
    policy = {
        "tls": {"mode": "ISTIO_MUTUAL"},
        "connectionPool": {"http": {"http2MaxRequests": listener.connection_pool.max_requests}},
        "outlierDetection": _outliers(listener.outlier_detection),
    }
    spec = {"host": f"{node}.{namespace}.svc.cluster.local", "trafficPolicy": policy}
    return kind("networking.istio.io/v1", "DestinationRule", node, spec=spec)


def _allowed(mesh: Mesh, contract: Contract, node: str, namespace: str) -> Object:
    """An ALLOW policy: what no rule lets in is refused."""
    by_callers: dict[frozenset[str], list[str]] = {}
    for rpc in rpcs_of(mesh, contract, node):
        by_callers.setdefault(callers(mesh, contract, node, rpc), []).append(rpc.path)
    rules = [
        {
            "from": [
                {"source": {"principals": [_principal(mesh, name, namespace) for name in sorted(names)]}},
            ],
            "to": [{"operation": {"paths": paths, "methods": ["POST"]}}],
        }
        for names, paths in by_callers.items()
        if names
    ]
    spec = {"selector": {"matchLabels": selector(node)}, "action": "ALLOW", "rules": rules}
    return kind("security.istio.io/v1", "AuthorizationPolicy", node, spec=spec)


def _principal(mesh: Mesh, node: str, namespace: str) -> str:
    # Istio names the service account of a gateway after the Gateway and its class.
    account = f"{node}-istio" if node == mesh.virtual_gateway.name else node
    return f"{mesh.trust_domain}/ns/{namespace}/sa/{account}"


def _tokens(mesh: Mesh, tokens: TokenRules) -> Object:
    rule = {"issuer": tokens.issuer, "audiences": [tokens.audience], "jwksUri": f"{tokens.issuer}{mesh.jwks.path}"}
    spec = {"targetRefs": [_at_gateway(mesh)], "jwtRules": [rule | {"forwardOriginalToken": True}]}
    return kind("security.istio.io/v1", "RequestAuthentication", mesh.virtual_gateway.name, spec=spec)


def _tokens_demanded(mesh: Mesh, contract: Contract) -> Object:
    """Calls that demand a token have a good one, and all others are public."""
    demanding = [rpc.path for rpc in _opened(mesh, contract) if rpc.kind == "authenticated"]
    public = [rpc.path for rpc in _opened(mesh, contract) if rpc.kind == "public"]
    rules = [
        {"from": [{"source": {"requestPrincipals": ["*"]}}], "to": [{"operation": {"paths": demanding}}]},
        {"to": [{"operation": {"paths": public}}]},
    ]
    spec = {"targetRefs": [_at_gateway(mesh)], "action": "ALLOW", "rules": rules}
    return kind("security.istio.io/v1", "AuthorizationPolicy", mesh.virtual_gateway.name, spec=spec)


def _opened(mesh: Mesh, contract: Contract) -> list[Rpc]:
    return [rpc for route in mesh.gateway_routes for rpc in contract.services[route.match.service_name]]


def _at_gateway(mesh: Mesh) -> dict[str, str]:
    return {"group": API.partition("/")[0], "kind": "Gateway", "name": mesh.virtual_gateway.name}


@dataclass(frozen=True, slots=True)
class EnvoyGateway:
    """Envoy Gateway: a gateway, and no mesh behind it."""

    name: str = "envoy-gateway"
    class_name: str = "eg"
    lost: tuple[str, ...] = (
        "calls between nodes: routes, mutual TLS and who may call what. It is a gateway alone",
        "the gateway's own client certificate towards nodes, which they demand",
        "that only methods which declare it are repeated: a retry policy holds for all methods of its route",
        "that a token is demanded: a bad one is refused, a missing one is left to the process",
        *_EVERYWHERE,
    )

    def policies(self, mesh: Mesh, contract: Contract, tokens: TokenRules, namespace: str) -> list[Object]:
        """TLS towards nodes, traffic by route, tokens and CORS, and what clients may do."""
        return [
            *(backend_tls(mesh, node, namespace) for node in mesh.nodes),
            *(_traffic(mesh, route) for route in mesh.gateway_routes),
            _security(mesh, tokens),
            _clients(mesh),
        ]


def _traffic(mesh: Mesh, opened: GatewayRoute) -> Object:
    route = next(
        route
        for route in mesh.routes_of(opened.virtual_service)
        if route.grpc_route.match.service_name == opened.match.service_name
    )
    grpc = route.grpc_route
    listener = mesh.nodes[grpc.action.weighted_targets[0].virtual_node].listener
    check = listener.health_check
    spec: dict[str, Any] = {
        "targetRefs": [{"group": API.partition("/")[0], "kind": "GRPCRoute", "name": opened.name}],
        "timeout": {"http": {"requestTimeout": _seconds(grpc.timeout.per_request)}},
        "circuitBreaker": {
            "maxParallelRequests": listener.connection_pool.max_requests,
            "maxPendingRequests": listener.connection_pool.max_requests,
        },
        "healthCheck": {
            "active": {
                "type": "GRPC",
                "interval": _seconds(check.interval),
                "timeout": _seconds(check.timeout),
                "healthyThreshold": check.healthy_threshold,
                "unhealthyThreshold": check.unhealthy_threshold,
            },
            "passive": _outliers(listener.outlier_detection),
        },
    }
    if grpc.retry_policy:
        spec["retry"] = _retry(grpc.retry_policy)
    return kind("gateway.envoyproxy.io/v1alpha1", "BackendTrafficPolicy", opened.name, spec=spec)


_TRIGGERS: Mapping[str, str] = {
    "stream-error": "reset",
    "gateway-error": "gateway-error",
    "connection-error": "connect-failure",
}


def _retry(policy: GrpcRetryPolicy) -> dict[str, Any]:
    events = (*policy.grpc_retry_events, *policy.http_retry_events, *policy.tcp_retry_events)
    return {
        "numRetries": policy.max_retries,
        "perRetry": {"timeout": _seconds(policy.per_retry_timeout)},
        "retryOn": {"triggers": [_TRIGGERS.get(event, event) for event in events]},
    }


def _security(mesh: Mesh, tokens: TokenRules) -> Object:
    provider = {
        "name": "authmesh",
        "issuer": tokens.issuer,
        "audiences": [tokens.audience],
        "remoteJWKS": {"uri": f"{tokens.issuer}{mesh.jwks.path}"},
    }
    spec: dict[str, Any] = {
        "targetRefs": [_at_gateway(mesh)],
        "jwt": {"optional": True, "providers": [provider]},
    }
    if origins := mesh.virtual_gateway.cors.origins:
        spec["cors"] = {"allowOrigins": list(origins), "maxAge": _seconds(mesh.virtual_gateway.cors.max_age)}
    return kind("gateway.envoyproxy.io/v1alpha1", "SecurityPolicy", mesh.virtual_gateway.name, spec=spec)


def _clients(mesh: Mesh) -> Object:
    edge = mesh.virtual_gateway
    spec: dict[str, Any] = {
        "targetRefs": [_at_gateway(mesh)],
        "connection": {"connectionLimit": {"value": edge.max_connections}},
        "tls": {"minVersion": "1.2", "alpnProtocols": ["h2"]},
    }
    if edge.trusted_hops:
        spec["clientIPDetection"] = {"xForwardedFor": {"numTrustedHops": edge.trusted_hops}}
    return kind("gateway.envoyproxy.io/v1alpha1", "ClientTrafficPolicy", edge.name, spec=spec)


@dataclass(frozen=True, slots=True)
class Lattice:
    """AWS Gateway API Controller: VPC Lattice, between services of VPCs and not from the internet."""

    name: str = "lattice"
    class_name: str = "amazon-vpc-lattice"
    lost: tuple[str, ...] = (
        "retries, timeouts, outlier detection and circuit breaking: Lattice has none",
        "mutual TLS with nodes, and proof that a node is that node: Lattice speaks TLS to targets and checks no names",
        "who may call what: its authorization is IAM's, with signed requests (SigV4)",
        "the verification of access tokens",
        "a way in from the internet: put a load balancer before it",
        "streams that are open for more than ten minutes, or silent for one (watches)",
        "CORS",
        *_EVERYWHERE,
    )

    def policies(self, mesh: Mesh, contract: Contract, tokens: TokenRules, namespace: str) -> list[Object]:
        """Target groups that speak gRPC, with their health checks."""
        return [_targets(mesh, node) for node in mesh.nodes]


def _targets(mesh: Mesh, node: str) -> Object:
    listener = mesh.nodes[node].listener
    check = listener.health_check
    spec = {
        "targetRef": {"group": "", "kind": "Service", "name": node},
        "protocol": "HTTPS",
        "protocolVersion": "GRPC",
        "healthCheck": {
            "enabled": True,
            "protocol": "HTTPS",
            "protocolVersion": "HTTP2",
            "port": listener.port_mapping.port,
            "intervalSeconds": round(check.interval.total_seconds()),
            "timeoutSeconds": round(check.timeout.total_seconds()),
            "healthyThresholdCount": max(2, check.healthy_threshold),
            "unhealthyThresholdCount": max(2, check.unhealthy_threshold),
        },
    }
    return kind("application-networking.k8s.aws/v1alpha1", "TargetGroupPolicy", node, spec=spec)


def _outliers(found: OutlierDetection) -> dict[str, Any]:
    """When a pod is left alone for a while: Istio and Envoy Gateway have the same words for it."""
    return {
        "splitExternalLocalOriginErrors": True,
        "consecutiveGatewayErrors": found.max_server_errors,
        "consecutiveLocalOriginFailures": found.max_server_errors,
        "interval": _seconds(found.interval),
        "baseEjectionTime": _seconds(found.base_ejection_duration),
        "maxEjectionPercent": found.max_ejection_percent,
    }


def _seconds(value: timedelta) -> str:
    """A duration as Gateway API writes it (GEP-2257): without fractions."""
    milliseconds = round(value.total_seconds() * 1000)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


FLAVORS: Mapping[str, Flavor] = {flavor.name: flavor for flavor in (Istio(), EnvoyGateway(), Lattice())}
"""By name."""
