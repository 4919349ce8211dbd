"""Resources of App Mesh's controller for Kubernetes, one file a kind.

What App Mesh can't hold is said: without `accept_loss` the mesh is refused, with it each file begins with the list.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import yaml

from mesh.contract import Contract
from mesh.model.agreement import RenderError, check_agreement
from mesh.model.mesh import (
    GatewayRoute,
    GrpcRetryPolicy,
    HealthCheck,
    Mesh,
    Route,
    VirtualGateway,
    VirtualNode,
    VirtualRouter,
    VirtualService,
)
from mesh.render.renderer import Files, without

API_VERSION = "appmesh.k8s.aws/v1beta2"
_LEAST_THRESHOLD = 2
"""Of health checks."""
_INTERVAL = timedelta(seconds=5), timedelta(seconds=300)
_TIMEOUT = timedelta(seconds=2), timedelta(seconds=60)
_METHOD_LENGTH = 50

LOST = (
    "who may call which method: nodes are told apart by their certificates only, for all that a node serves",
    "the verification of access tokens at the edge and at the sidecars; the processes still verify them",
    "the forwarded identity of the caller (x-forwarded-client-cert): processes refuse every call without it",
    "rate limits, limits of connections, requests, memory and message sizes at the gateway",
    "JSON and gRPC-Web at the gateway, CORS and cookies: its listener takes gRPC alone",
    "the gateway's own certificate: name one under spec.listeners[].tls",
    "the longest duration of a connection",
    "that only methods which declare it are repeated: a retry policy holds for all methods of its route",
)
"""What every mesh of ours has and App Mesh has no words for."""


@dataclass(frozen=True, slots=True)
class AppMeshRenderer:
    """`mesh.yaml`, `virtual-nodes.yaml` and so on."""

    namespace: str
    """Of Kubernetes."""
    accept_loss: bool = False
    target: str = "app-mesh"

    def render(self, mesh: Mesh, contract: Contract) -> Files:
        """All files.

        Raises:
            RenderError: mesh.yaml disagrees with the access rules, or the target can't hold it; with all that it can't.
        """
        check_agreement(mesh, contract)
        if faults := list(_impossible(mesh)):
            raise RenderError("\n".join(faults))
        lost = [*LOST, *_changed(mesh)]
        head = without("App Mesh", lost, accepted=self.accept_loss)
        kinds = {
            "mesh": [self._mesh(mesh)],
            "virtual-nodes": [self._node(mesh, node) for node in mesh.virtual_nodes],
            "virtual-services": [self._service(service) for service in mesh.virtual_services],
            "virtual-routers": [self._router(router) for router in mesh.virtual_routers],
            "virtual-gateway": [self._gateway(mesh, mesh.virtual_gateway)],
            "gateway-routes": [self._gateway_route(mesh.virtual_gateway.name, route) for route in mesh.gateway_routes],
        }
        return {f"{name}.yaml": head + _documents(resources) for name, resources in kinds.items()}

    def _resource(self, kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {"name": name} if kind == "Mesh" else {"name": name, "namespace": self.namespace}
        return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": dict(spec)}

    def _mesh(self, mesh: Mesh) -> dict[str, Any]:
        selector = {"matchLabels": {"mesh": mesh.name}}
        return self._resource(
            "Mesh", mesh.name, {"egressFilter": {"type": mesh.egress_filter}, "namespaceSelector": selector}
        )

    def _node(self, mesh: Mesh, node: VirtualNode) -> dict[str, Any]:
        listener = node.listener
        spec: dict[str, Any] = {
            "podSelector": {"matchLabels": {"app": node.name}},
            "listeners": [
                {
                    "portMapping": _port(listener.port_mapping.port, listener.port_mapping.protocol),
                    "healthCheck": _health_check(listener.health_check),
                    "connectionPool": {"grpc": {"maxRequests": listener.connection_pool.max_requests}},
                    "outlierDetection": {
                        "maxServerErrors": listener.outlier_detection.max_server_errors,
                        "interval": _duration(listener.outlier_detection.interval),
                        "baseEjectionDuration": _duration(listener.outlier_detection.base_ejection_duration),
                        "maxEjectionPercent": listener.outlier_detection.max_ejection_percent,
                    },
                    "timeout": {"grpc": _longest_timeout(mesh.routes_to(node.name))},
                    "tls": {
                        "mode": "STRICT",
                        "certificate": {"sds": {"secretName": mesh.spiffe_ids.of(node.name)}},
                        "validation": _validation(mesh, _callers(mesh, node.name)),
                    },
                }
            ],
            "backends": [{"virtualService": {"virtualServiceRef": {"name": name}}} for name in node.backends],
            "serviceDiscovery": {
                "dns": {
                    "hostname": f"{node.name}.{self.namespace}.svc.cluster.local",
                    # Every pod is an endpoint: with one address at a time, ejection means nothing.
                    "responseType": "ENDPOINTS",
                }
            },
            "logging": {"accessLog": {"file": {"path": "/dev/stdout"}}},
        }
        if node.backends:
            spec["backendDefaults"] = _client_policy(mesh, node.name, mesh.backend_nodes(node.name))
        return self._resource("VirtualNode", node.name, spec)

    def _service(self, service: VirtualService) -> dict[str, Any]:
        provider = {"virtualRouter": {"virtualRouterRef": {"name": service.virtual_router}}}
        return self._resource("VirtualService", service.name, {"awsName": service.name, "provider": provider})

    def _router(self, router: VirtualRouter) -> dict[str, Any]:
        listeners = [{"portMapping": _port(router.port_mapping.port, router.port_mapping.protocol)}]
        routes = [_route(route) for route in router.routes]
        return self._resource("VirtualRouter", router.name, {"listeners": listeners, "routes": routes})

    def _gateway(self, mesh: Mesh, gateway: VirtualGateway) -> dict[str, Any]:
        spec = {
            "podSelector": {"matchLabels": {"app": gateway.name}},
            "namespaceSelector": {"matchLabels": {"mesh": mesh.name}},
            "gatewayRouteSelector": {"matchLabels": {"gateway": gateway.name}},
            "listeners": [
                {
                    "portMapping": _port(gateway.port_mapping.port, "grpc"),
                    "connectionPool": {"grpc": {"maxRequests": gateway.max_requests}},
                }
            ],
            "backendDefaults": _client_policy(mesh, gateway.name, mesh.opened_nodes()),
            "logging": {"accessLog": {"file": {"path": "/dev/stdout"}}},
        }
        return self._resource("VirtualGateway", gateway.name, spec)

    def _gateway_route(self, gateway: str, route: GatewayRoute) -> dict[str, Any]:
        target = {"virtualService": {"virtualServiceRef": {"name": route.virtual_service}}}
        grpc = {"match": {"serviceName": route.match.service_name}, "action": {"target": target}}
        resource = self._resource("GatewayRoute", route.name, {"grpcRoute": grpc})
        resource["metadata"]["labels"] = {"gateway": gateway}
        return resource


def _impossible(mesh: Mesh) -> Iterator[str]:
    """What is out of App Mesh's bounds, and has no near value."""
    for router in mesh.virtual_routers:
        for route in router.routes:
            method = route.grpc_route.match.method_name or ""
            if len(method) > _METHOD_LENGTH:
                yield f"virtualRouters {router.name}: {method}: App Mesh takes methods of {_METHOD_LENGTH} characters"
    for node in mesh.virtual_nodes:
        check = node.listener.health_check
        for name, value, (least, most) in (
            ("interval", check.interval, _INTERVAL),
            ("timeout", check.timeout, _TIMEOUT),
        ):
            if not least <= value <= most:
                bounds = f"{_seconds(least)} to {_seconds(most)}"
                yield f"virtualNodes {node.name}: healthCheck.{name}: App Mesh takes {bounds}"


def _changed(mesh: Mesh) -> Iterator[str]:
    nodes = [
        node.name
        for node in mesh.virtual_nodes
        if min(node.listener.health_check.healthy_threshold, node.listener.health_check.unhealthy_threshold)
        < _LEAST_THRESHOLD
    ]
    if nodes:
        yield f"a threshold of 1 for health checks ({', '.join(nodes)}): it is {_LEAST_THRESHOLD}"


def _port(port: int, protocol: str) -> dict[str, Any]:
    return {"port": port, "protocol": protocol}


def _health_check(check: HealthCheck) -> dict[str, Any]:
    return {
        "protocol": "grpc",
        "intervalMillis": _millis(check.interval),
        "timeoutMillis": _millis(check.timeout),
        "healthyThreshold": max(_LEAST_THRESHOLD, check.healthy_threshold),
        "unhealthyThreshold": max(_LEAST_THRESHOLD, check.unhealthy_threshold),
    }


def _longest_timeout(routes: Sequence[Route]) -> dict[str, Any]:
    """The listener's own timeout ends what the routes allow: it is as long as the longest of them."""
    return {
        "perRequest": _duration(max(route.grpc_route.timeout.per_request for route in routes)),
        "idle": _duration(max(route.grpc_route.timeout.idle for route in routes)),
    }


def _route(route: Route) -> dict[str, Any]:
    found = route.grpc_route
    match = {"serviceName": found.match.service_name}
    if found.match.method_name:
        match["methodName"] = found.match.method_name
    grpc: dict[str, Any] = {
        "match": match,
        "action": {
            "weightedTargets": [
                {"virtualNodeRef": {"name": target.virtual_node}, "weight": target.weight}
                for target in found.action.weighted_targets
            ]
        },
        "timeout": {"perRequest": _duration(found.timeout.per_request), "idle": _duration(found.timeout.idle)},
    }
    if found.retry_policy:
        grpc["retryPolicy"] = _retries(found.retry_policy)
    # The more precise match goes first.
    return {"name": route.name, "priority": 0 if found.match.method_name else 1, "grpcRoute": grpc}


def _retries(policy: GrpcRetryPolicy) -> dict[str, Any]:
    events = {
        "grpcRetryEvents": list(policy.grpc_retry_events),
        "httpRetryEvents": list(policy.http_retry_events),
        "tcpRetryEvents": list(policy.tcp_retry_events),
    }
    return {
        "maxRetries": policy.max_retries,
        "perRetryTimeout": _duration(policy.per_retry_timeout),
        **{name: found for name, found in events.items() if found},
    }


def _callers(mesh: Mesh, node: str) -> list[str]:
    """Who dials the node: those that have it as a backend, the gateway, and for the keys every sidecar."""
    callers = [name for name in mesh.nodes if node in mesh.backend_nodes(name)]
    return [*callers, *([mesh.virtual_gateway.name] if node in mesh.opened_nodes() else [])]


def _validation(mesh: Mesh, peers: Sequence[str]) -> dict[str, Any]:
    return {
        "trust": {"sds": {"secretName": f"spiffe://{mesh.trust_domain}"}},
        "subjectAlternativeNames": {"match": {"exact": [mesh.spiffe_ids.of(peer) for peer in peers]}},
    }


def _client_policy(mesh: Mesh, name: str, peers: Sequence[str]) -> dict[str, Any]:
    tls = {
        "enforce": True,
        "certificate": {"sds": {"secretName": mesh.spiffe_ids.of(name)}},
        "validation": _validation(mesh, peers),
    }
    return {"clientPolicy": {"tls": tls}}


def _duration(value: timedelta) -> dict[str, Any]:
    milliseconds = _millis(value)
    return (
        {"unit": "s", "value": milliseconds // 1000}
        if milliseconds % 1000 == 0
        else {"unit": "ms", "value": milliseconds}
    )


def _millis(value: timedelta) -> int:
    return round(value.total_seconds() * 1000)


def _seconds(value: timedelta) -> str:
    return f"{value.total_seconds():g}s"


def _documents(resources: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"---\n{yaml.safe_dump(resource, sort_keys=False)}" for resource in resources)
