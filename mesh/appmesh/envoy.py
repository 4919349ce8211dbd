"""The Envoys of a mesh as App Mesh ran them: its names, ports and defaults.

What is another way on purpose: breakers are finite and retries have a budget; every address of a DNS name is an
endpoint; certificates are read again when their files change; nothing goes to hosts that are no backends; the admin
interface is a unix socket.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mesh.appmesh.model import AppMesh, BackendDefaults, ConnectionPool, Listener, Logging, VirtualGateway, VirtualNode
from mesh.appmesh.routing import (
    gateway_virtual_hosts,
    in_order,
    local_route,
    service_ports,
    slow_routes,
    targets,
    upstream_name,
    virtual_host,
)
from mesh.appmesh.tls import Secrets, client_socket, server_sockets
from mesh.render.envoy.names import EGRESS_PORT, INGRESS_PORT, egress_listener, ingress_listener
from mesh.render.envoy.placement import Address
from mesh.render.envoy.resource import (
    Resource,
    discovery,
    extension,
    from_file,
    http2_upstream,
    seconds,
    to_yaml,
    typed,
)
from mesh.render.renderer import Files

_CONNECTIONS = 1024
"""Of a node or a process, and requests, where the mesh names no bound: Envoy's own default."""
_HTTP2 = ("grpc", "http2")
_FAMILIES = {"IPv4_ONLY": "V4_ONLY", "IPv6_ONLY": "V6_ONLY", "IPv4_PREFERRED": "V4_PREFERRED"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an Envoy is, and what is around it. By default as in a pod of App Mesh, behind its `iptables`."""

    config: Path = Path("/etc/envoy")
    """Directory of its files."""
    admin_socket: Path = Path("/run/authmesh/envoy.admin")
    sds_socket: Path = Path("/run/spire/sockets/agent.sock")
    """Of the agent that gives certificates by SDS."""
    ingress: Mapping[int, Address] | None = None
    """Where each listener of the node is, by its port. None: connections are redirected to port 15000."""
    egress: Mapping[int, Address] | None = None
    """Where the process dials virtual services, by their ports. None: connections are redirected to port 15001."""
    process: Mapping[int, Address] = field(default_factory=dict)
    """Where the process listens, by the port of the listener; by default at that port of 127.0.0.1."""
    endpoints: Mapping[tuple[str, int], Sequence[Address]] = field(default_factory=dict)
    """Of nodes, by name and port, where DNS is not to be asked."""


def render_all(mesh: AppMesh) -> Files:
    """The files of every Envoy, `<name>/bootstrap.yaml` and so on."""
    names = [*(one.name for one in mesh.virtual_nodes), *(one.name for one in mesh.virtual_gateways)]
    return {f"{name}/{file}": text for name in names for file, text in render(mesh, name, Place()).items()}


def render(mesh: AppMesh, name: str, place: Place) -> Files:
    """The files of the Envoy of a node or a gateway."""
    gateway = next((one for one in mesh.virtual_gateways if one.name == name), None)
    made = _Envoy(mesh, gateway or mesh.node(name), place)
    return made.gateway_files(gateway) if gateway else made.node_files(mesh.node(name))


def render_into(mesh: AppMesh, name: str, folder: Path) -> Files:
    """The files of an Envoy that reads them in `folder`."""
    return render(mesh, name, Place(config=folder))


def notes(mesh: AppMesh) -> Iterator[str]:
    """What the Envoys do otherwise than App Mesh's did, and why."""
    if mesh.egress_filter == "ALLOW_ALL":
        yield (
            "egressFilter ALLOW_ALL: the Envoys open backends only; what is outside needs a virtual node with its DNS "
            "name, or is called past the Envoy"
        )
    else:
        yield "egressFilter DROP_ALL let *.amazonaws.com through; the Envoys open backends only"
    found = {node.name: node.service_discovery for node in mesh.virtual_nodes if node.service_discovery}
    if one_by_one := [n for n, where in found.items() if where.dns and where.dns.response_type == "LOADBALANCER"]:
        yield (
            f"responseType LOADBALANCER used one address at a time; every address of the name is an endpoint now, and "
            f"a headless Service gives one for each pod: {', '.join(one_by_one)}"
        )
    if by_map := [n for n, where in found.items() if where.aws_cloud_map]:
        asked = ", ".join(f"{name} at {_hostname(mesh.node(name))}" for name in by_map)
        yield f"Cloud Map is asked by DNS, which DNS namespaces have and attributes play no part in: {asked}"
    if unbound := [node.name for node in mesh.virtual_nodes if any(not one.connection_pool for one in node.listeners)]:
        yield (
            f"no connectionPool was no bound; it is {_CONNECTIONS} connections, requests, and requests that wait: "
            f"{', '.join(unbound)}"
        )
    for router in mesh.virtual_routers:
        for route in router.routes:
            yield from (
                f"virtual router {router.name}: route {route.name}: {note}" for note in slow_routes(mesh, route)
            )
    for caller in mesh.virtual_nodes:
        for node in mesh.virtual_nodes:
            if any(_calls_unchecked(mesh, caller, node, listener) for listener in node.listeners):
                yield (
                    f"{caller.name} calls {node.name} by TLS without checking who answers, as with App Mesh: give it a "
                    "client policy"
                )


def _calls_unchecked(mesh: AppMesh, caller: VirtualNode, node: VirtualNode, listener: Listener) -> bool:
    if listener.tls is None or listener.tls.mode == "DISABLED":
        return False
    for backend in caller.backends:
        if any(target == node.name for target, _ in targets(mesh, backend.virtual_service)):
            policy = backend.client_policy or (caller.backend_defaults and caller.backend_defaults.client_policy)
            tls = policy.tls if policy else None
            return tls is None or bool(tls.ports and listener.port_mapping.port not in tls.ports)
    return False


def _hostname(node: VirtualNode) -> str:
    found = node.service_discovery
    if found and found.dns:
        return found.dns.hostname
    assert found is not None
    assert found.aws_cloud_map is not None
    return f"{found.aws_cloud_map.service_name}.{found.aws_cloud_map.namespace_name}"


class _Envoy:
    """One Envoy, put together."""

    def __init__(self, mesh: AppMesh, owner: VirtualNode | VirtualGateway, place: Place) -> None:
        self._mesh, self._owner, self._place = mesh, owner, place
        self._secrets = Secrets(place.config, place.sds_socket)

    def node_files(self, node: VirtualNode) -> Files:
        routes = [
            _route_configuration(
                f"rds_ingress_{one.port_mapping.protocol}_{one.port_mapping.port}",
                [{"name": "process", "domains": ["*"], "routes": [local_route(self._local_name(one), one)]}],
            )
            for one in node.listeners
            if one.port_mapping.protocol != "tcp"
        ]
        services = [backend.virtual_service for backend in node.backends]
        egress, egress_routes = self._egress(services)
        listeners = [*self._ingress(node), *egress]
        clusters = [self._local(one) for one in node.listeners]
        clusters += self._upstreams(services, node.backend_defaults)
        return self._files(listeners, clusters, [*routes, *egress_routes])

    def gateway_files(self, gateway: VirtualGateway) -> Files:
        routes = [one for one in self._mesh.gateway_routes if one.virtual_gateway == gateway.name]
        services = list(dict.fromkeys(one.spec.action.target.virtual_service for one in routes))
        inner = f"rds_egress_http_{EGRESS_PORT}"
        configurations = [
            _route_configuration(
                inner,
                gateway_virtual_hosts(self._mesh, services),
            )
        ]
        listeners = []
        clusters: list[Resource] = []
        for listener in gateway.listeners:
            mapping = listener.port_mapping
            name = f"rds_ingress_{mapping.protocol}_{mapping.port}"
            loop = f"cds_ingress_{self._mesh.name}_{gateway.name}_self_redirect_{mapping.protocol}_{EGRESS_PORT}"
            if loop not in [one["name"] for one in clusters]:
                clusters.append(self._loop(loop, mapping.protocol, listener.connection_pool))
            ours = [one for one in routes if one.spec.match.port in (None, mapping.port)]
            configurations.append(
                _route_configuration(
                    name,
                    [
                        {
                            "name": "self_redirect",
                            "domains": ["*"],
                            "routes": [item for one in in_order(ours) for item in one.to(loop)],
                            "response_headers_to_remove": ["x-app-mesh-virtual-service"],
                        }
                    ],
                )
            )
            where = (self._place.ingress or {}).get(mapping.port, Address("0.0.0.0", mapping.port))
            manager = self._manager("ingress", name, public=True)
            listeners.append(
                {
                    "name": ingress_listener(mapping.port),
                    "address": _tcp(where),
                    "traffic_direction": "INBOUND",
                    **server_sockets(listener.tls, [manager], self._secrets, {}),
                }
            )
        listeners.append(
            {
                "name": egress_listener(),
                "internal_listener": {},
                "filter_chains": [{"filters": [self._manager("egress", inner)]}],
            }
        )
        clusters += self._upstreams(services, gateway.backend_defaults)
        internal = extension("envoy.bootstrap.internal_listener", "bootstrap.internal_listener.v3.InternalListener")
        return self._files(listeners, clusters, configurations, {"bootstrap_extensions": [internal]})

    # Listeners

    def _ingress(self, node: VirtualNode) -> list[Resource]:
        several = len(node.listeners) > 1
        chains: list[tuple[Listener, Resource]] = []
        for listener in node.listeners:
            mapping = listener.port_mapping
            prefix = f"ingress.{mapping.protocol}.{mapping.port}" if several else "ingress"
            if mapping.protocol == "tcp":
                idle = listener.timeout.tcp.idle if listener.timeout and listener.timeout.tcp else None
                one = _tcp_proxy(prefix, {"cluster": self._local_name(listener)}, seconds(idle) if idle else None)
            else:
                one = self._manager(prefix, f"rds_ingress_{mapping.protocol}_{mapping.port}")
            chains.append((listener, one))
        if self._place.ingress is not None:
            return [
                {
                    "name": f"{ingress_listener()}_{listener.port_mapping.port}",
                    "address": _tcp(self._place.ingress[listener.port_mapping.port]),
                    "traffic_direction": "INBOUND",
                    **server_sockets(listener.tls, [one], self._secrets, {}),
                }
                for listener, one in chains
            ]
        made = [
            server_sockets(listener.tls, [one], self._secrets, {"destination_port": listener.port_mapping.port})
            for listener, one in chains
        ]
        if not made:
            return []
        filters = {one["name"]: one for item in made for one in item.get("listener_filters", ())}
        return [
            {
                "name": ingress_listener(),
                "address": _tcp(Address("0.0.0.0", INGRESS_PORT)),
                "traffic_direction": "INBOUND",
                "listener_filters": [_original_destination(), *filters.values()],
                "filter_chains": [chain for item in made for chain in item["filter_chains"]],
            }
        ]

    def _egress(self, services: Sequence[str]) -> tuple[list[Resource], list[Resource]]:
        """Listeners and route configurations for what the process calls: one for each port of a virtual service."""
        by_port: dict[int, list[str]] = {}
        protocols: dict[int, str] = {}
        for service in services:
            for port, protocol in service_ports(self._mesh, service):
                by_port.setdefault(port, []).append(service)
                protocols.setdefault(port, protocol)
        chains: dict[int, Resource] = {}
        configurations = []
        for port, found in by_port.items():
            if protocols[port] == "tcp":
                # One alone, as `mesh_yaml` says; without a route there is nowhere to go.
                if route := self._tcp_route(found[0]):
                    chains[port] = route
                continue
            name = f"rds_egress_{protocols[port]}_{port}"
            hosts = [virtual_host(self._mesh, service, port) for service in found]
            configurations.append(_route_configuration(name, hosts))
            chains[port] = self._manager("egress", name)
        if self._place.egress is not None:
            listeners = [
                {
                    "name": f"{egress_listener()}_{port}",
                    "address": _tcp(self._place.egress[port]),
                    "traffic_direction": "OUTBOUND",
                    "filter_chains": [{"filters": [one]}],
                }
                for port, one in chains.items()
            ]
            return listeners, configurations
        matched = [{"filter_chain_match": {"destination_port": port}, "filters": [one]} for port, one in chains.items()]
        if not matched:
            return [], []
        listener = {
            "name": egress_listener(),
            "address": _tcp(Address("0.0.0.0", EGRESS_PORT)),
            "traffic_direction": "OUTBOUND",
            "listener_filters": [_original_destination()],
            "filter_chains": matched,
        }
        return [listener], configurations

    def _tcp_route(self, service: str) -> Resource | None:
        provider = self._mesh.service(service).provider
        assert provider is not None
        if provider.virtual_node:
            (node, port), *_ = targets(self._mesh, service)
            return _tcp_proxy("egress", {"cluster": upstream_name(self._mesh, node, port)}, None)
        assert provider.virtual_router is not None
        route = next((one.tcp_route for one in self._mesh.router(provider.virtual_router).routes), None)
        if route is None:
            return None
        clusters = [
            {
                "name": upstream_name(self._mesh, target.virtual_node, target.port),
                "weight": target.weight,
            }
            for target in route.action.weighted_targets
            if target.weight
        ]
        idle = seconds(route.timeout.idle) if route.timeout and route.timeout.idle is not None else None
        return _tcp_proxy("egress", {"weighted_clusters": {"clusters": clusters}}, idle)

    def _manager(self, prefix: str, routes: str, *, public: bool = False) -> Resource:
        strict = {
            "normalize_path": True,
            "merge_slashes": True,
            "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
            "use_remote_address": True,
        }
        router = extension("envoy.filters.http.router", "filters.http.router.v3.Router")
        return extension(
            "envoy.filters.network.http_connection_manager",
            "filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix=prefix,
            rds={
                "route_config_name": routes,
                "config_source": from_file(str(self._place.config), f"{routes}.yaml"),
            },
            http_filters=[router],
            upgrade_configs=[{"upgrade_type": "websocket"}],
            access_log=_access_log(self._owner.logging),
            **(strict if public else {}),
        )

    # Clusters

    def _local_name(self, listener: Listener) -> str:
        mapping = listener.port_mapping
        return f"cds_ingress_{self._mesh.name}_{self._owner.name}_{mapping.protocol}_{mapping.port}"

    def _local(self, listener: Listener) -> Resource:
        mapping, name = listener.port_mapping, self._local_name(listener)
        address = self._place.process.get(mapping.port, Address("127.0.0.1", mapping.port))
        return {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "0.25s",
            "load_assignment": _endpoints(name, [address]),
            **_http(mapping.protocol),
            "circuit_breakers": _breakers(listener.connection_pool),
        }

    def _loop(self, name: str, protocol: str, pool: ConnectionPool | None) -> Resource:
        """The gateway's way to its own egress, where the routes of virtual services are."""
        endpoint = {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": egress_listener()}}}}
        plain = extension("envoy.transport_sockets.raw_buffer", "transport_sockets.raw_buffer.v3.RawBuffer")
        return {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
            "transport_socket": extension(
                "envoy.transport_sockets.internal_upstream",
                "transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
                transport_socket=plain,
            ),
            **_http(protocol),
            "circuit_breakers": _breakers(pool),
        }

    def _upstreams(self, services: Sequence[str], defaults: BackendDefaults | None) -> list[Resource]:
        found: dict[str, Resource] = {}
        policies = {
            backend.virtual_service: backend.client_policy
            for backend in (self._owner.backends if isinstance(self._owner, VirtualNode) else ())
        }
        for service in services:
            policy = policies.get(service) or (defaults.client_policy if defaults else None)
            for name, port in targets(self._mesh, service):
                node = self._mesh.node(name)
                listener = next(one for one in node.listeners if one.port_mapping.port == port)
                cluster = upstream_name(self._mesh, name, port)
                socket = client_socket(policy, listener, _hostname(node), self._secrets)
                found.setdefault(cluster, self._upstream(cluster, node, listener) | socket)
        return list(found.values())

    def _upstream(self, name: str, node: VirtualNode, listener: Listener) -> Resource:
        port = listener.port_mapping.port
        addresses = self._place.endpoints.get((node.name, port), [Address(_hostname(node), port)])
        check, outliers = listener.health_check, listener.outlier_detection
        cluster: Resource = {
            "name": name,
            "type": "STRICT_DNS",
            "dns_refresh_rate": "5s",
            "respect_dns_ttl": True,
            "dns_lookup_family": _FAMILIES.get(self._mesh.ip_preference or "", "AUTO"),
            "connect_timeout": "1s",
            "load_assignment": _endpoints(name, addresses),
            **_http(listener.port_mapping.protocol),
            "circuit_breakers": _breakers(None),
            "ignore_health_on_host_removal": True,
        }
        if check:
            kinds: dict[str, Resource] = {
                "grpc": {"grpc_health_check": {}},
                "tcp": {"tcp_health_check": {}},
                "http": {"http_health_check": {"path": check.path or "/", "host": f"{_hostname(node)}:{port}"}},
            }
            kinds["http2"] = {"http_health_check": {**kinds["http"]["http_health_check"], "codec_client_type": "HTTP2"}}
            cluster["health_checks"] = [
                {
                    **kinds[check.protocol],
                    "timeout": seconds(check.timeout),
                    "interval": seconds(check.interval),
                    # Envoy's own default looks once a minute at an endpoint that had no request yet.
                    "no_traffic_interval": seconds(check.interval),
                    "healthy_threshold": check.healthy_threshold,
                    "unhealthy_threshold": check.unhealthy_threshold,
                }
            ]
        if outliers:
            cluster["outlier_detection"] = {
                "consecutive_5xx": outliers.max_server_errors,
                "interval": seconds(outliers.interval),
                "base_ejection_time": seconds(outliers.base_ejection_duration),
                "max_ejection_percent": outliers.max_ejection_percent,
            }
        return cluster

    # Files

    def _files(
        self,
        listeners: Sequence[Resource],
        clusters: Sequence[Resource],
        configurations: Sequence[Resource],
        extra: Resource | None = None,
    ) -> Files:
        kind = "virtualGateway" if isinstance(self._owner, VirtualGateway) else "virtualNode"
        resource = f"mesh/{self._mesh.name}/{kind}/{self._owner.name}"
        config = str(self._place.config)
        bootstrap = {
            "node": {"id": resource, "cluster": resource},
            "admin": {"address": {"pipe": {"path": str(self._place.admin_socket), "mode": 0o600}}},
            "dynamic_resources": {
                "lds_config": from_file(config, "lds.yaml"),
                "cds_config": from_file(config, "cds.yaml"),
            },
            **({"static_resources": {"clusters": self._secrets.clusters()}} if self._secrets.clusters() else {}),
            "stats_config": {
                "stats_tags": [
                    {"tag_name": "appmesh.mesh", "fixed_value": self._mesh.name},
                    {
                        "tag_name": f"appmesh.virtual_{'gateway' if kind == 'virtualGateway' else 'node'}",
                        "fixed_value": self._owner.name,
                    },
                ]
            },
            **(extra or {}),
        }
        return {
            "bootstrap.yaml": to_yaml(bootstrap),
            "lds.yaml": discovery("listener.v3.Listener", listeners),
            "cds.yaml": discovery("cluster.v3.Cluster", clusters),
            **{f"{one['name']}.yaml": discovery("route.v3.RouteConfiguration", [one]) for one in configurations},
            **self._secrets.files(),
        }


def _route_configuration(name: str, hosts: Sequence[Resource]) -> Resource:
    return {"name": name, "validate_clusters": False, "virtual_hosts": list(hosts)}


def _tcp(address: Address) -> Resource:
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _endpoints(cluster: str, addresses: Sequence[Address]) -> Resource:
    endpoints = [{"endpoint": {"address": _tcp(address)}} for address in addresses]
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}]}


def _http(protocol: str) -> Resource:
    return http2_upstream() if protocol in _HTTP2 else {}


def _breakers(pool: ConnectionPool | None) -> Resource:
    bounds = {
        "max_connections": _CONNECTIONS,
        "max_pending_requests": _CONNECTIONS,
        "max_requests": _CONNECTIONS,
    }
    if pool and (streams := pool.grpc or pool.http2):
        bounds["max_requests"] = streams.max_requests
    elif pool and pool.http:
        bounds["max_connections"] = pool.http.max_connections
        bounds["max_pending_requests"] = pool.http.max_pending_requests or _CONNECTIONS
    elif pool and pool.tcp:
        bounds["max_connections"] = pool.tcp.max_connections
    budget = {"budget_percent": {"value": 20}, "min_retry_concurrency": 3}
    return {"thresholds": [{**bounds, "retry_budget": budget}]}


def _tcp_proxy(prefix: str, to: Resource, idle: str | None) -> Resource:
    return extension(
        "envoy.filters.network.tcp_proxy",
        "filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=prefix,
        **to,
        **({"idle_timeout": idle} if idle else {}),
    )


def _original_destination() -> Resource:
    return extension("envoy.filters.listener.original_dst", "filters.listener.original_dst.v3.OriginalDst")


def _access_log(logging: Logging | None) -> list[Resource]:
    """As the mesh says; none where it says nothing."""
    found = logging.access_log.file if logging and logging.access_log else None
    if found is None:
        return []
    form: Resource = {}
    if found.format and found.format.text is not None:
        form = {"log_format": {"text_format_source": {"inline_string": f"{found.format.text}\n"}}}
    elif found.format and found.format.json_ is not None:
        form = {"log_format": {"json_format": {one.key: one.value for one in found.format.json_}}}
    return [
        {
            "name": "envoy.access_loggers.file",
            "typed_config": typed("access_loggers.file.v3.FileAccessLog", path=found.path, **form),
        }
    ]
