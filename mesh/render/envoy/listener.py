"""Where calls come in.

The ingress and egress of a node, the public listener of the gateway, and its inner health listener.
"""

import base64
from datetime import timedelta

from grpc_health.v1 import health_pb2

from mesh.contract import Contract
from mesh.model.agreement import jwks_rpc
from mesh.model.mesh import Mesh
from mesh.render.envoy import limits, names, protocol
from mesh.render.envoy.access_log import HEALTH_PATH, access_log
from mesh.render.envoy.authentication import gateway_jwt_authn, jwt_authn
from mesh.render.envoy.authorization import gateway_rbac, ingress_rbac
from mesh.render.envoy.local_reply import local_reply_config
from mesh.render.envoy.placement import Address, Placement, TokenRules
from mesh.render.envoy.request_head import early_mutations, no_trailers, request_head
from mesh.render.envoy.resource import Resource, extension, seconds, typed
from mesh.render.envoy.script import edge_script
from mesh.render.envoy.tls import mesh_server, public_server
from mesh.render.request_size import SMALLEST

LIVENESS_PATH = "/healthz"
STARTED_PATH = "/started"
READY_PATH = "/ready"

_EDGE_HEADER_KIB = 32
_MESH_HEADER_KIB = 64
"""Whatever the edge lets in passes every hop behind it: a sidecar resets a stream whose headers are too large, and
that counts as a failure of its node."""
_SOCKET_MODE = 0o600
STREAMS = 50
"""Of one connection, at once. Envoy's guide says 100; what one client can make the edge hold is bounded by fewer."""
STREAM_WINDOW = 65_536
CONNECTION_WINDOW = 1_048_576
CONNECTION_BUFFER = 32_768
"""Envoy's guide for edges. A client that sends more than a window before it reads (httpx, curl before 8) sees its
stream reset instead of the refusal that came before it; RFC 9113 (8.1) asks clients to read that first."""
IDLE = "60s"
HEADERS_TIMEOUT = timedelta(seconds=10)
"""For the headers of a request to come."""
REQUEST_TIMEOUT = timedelta(seconds=10)
"""For the whole of a request to come."""
FLUSH_TIMEOUT = timedelta(seconds=30)
"""For the client to read on in an answer that is complete here."""


def ingress(
    mesh: Mesh, contract: Contract, node: str, placement: Placement, tokens: TokenRules, routes: Resource
) -> Resource:
    """Calls from other sidecars and the gateway to the process of `node`: mTLS, JWT, then the access rules."""
    filters = [
        request_head(contract),
        no_trailers(),
        jwt_authn(mesh, contract, tokens, (node,)),
        ingress_rbac(mesh, contract, node),
        _router(),
    ]
    if node == mesh.jwks_node():
        # Sidecars get the JWKS as a plain document.
        filters.insert(
            0,
            protocol.transcoder(contract, (jwks_rpc(mesh, contract).service,), mesh.virtual_gateway.max_request_bytes),
        )
    manager = _manager(
        mesh,
        placement,
        node,
        "ingress",
        routes,
        filters,
        codec_type="HTTP2",
        common_http_protocol_options={"max_connection_duration": seconds(mesh.max_connection_duration)},
        forward_client_cert_details="SANITIZE_SET",
        set_current_client_cert_details={"uri": True},
        skip_xff_append=True,
    )
    return {
        "name": names.ingress_listener(),
        "address": _tcp(placement.ingress),
        "traffic_direction": "INBOUND",
        "filter_chains": [{"filters": [manager], "transport_socket": mesh_server(mesh, placement)}],
    }


def egress(mesh: Mesh, contract: Contract, node: str, placement: Placement, routes: Resource) -> Resource:
    """Calls of the process to its backends.

    A pipe that only its own user can open: a process that dials it is this node to the mesh.
    """
    manager = _manager(
        mesh,
        placement,
        node,
        "egress",
        routes,
        [request_head(contract), no_trailers(), _router()],
        codec_type="HTTP2",
        skip_xff_append=True,
    )
    return {
        "name": names.egress_listener(),
        "address": {"pipe": {"path": str(placement.egress_socket), "mode": _SOCKET_MODE}},
        "traffic_direction": "OUTBOUND",
        "filter_chains": [{"filters": [manager]}],
    }


def gateway(mesh: Mesh, contract: Contract, placement: Placement, tokens: TokenRules, routes: Resource) -> Resource:
    """The public listener: gRPC, gRPC-Web, Connect and JSON on one port."""
    edge = mesh.virtual_gateway
    # The order matters. What bounds a client comes before what keeps anything for it, and a token is verified before
    # the body that needs one. The transcoder keeps a request anew, so the request is whole, and small enough, before
    # it.
    filters = [
        protocol.liveness(LIVENESS_PATH),
        edge_script(),
        protocol.cors(),
        protocol.grpc_web(),
        *limits.request_limits(edge.request_limit, placement.rate_limit_factor),
        limits.concurrency_limit(edge.max_requests),
        protocol.csrf(mesh, placement),
        request_head(contract, edge=True),
        no_trailers(),
        gateway_jwt_authn(mesh, contract, tokens),
        limits.announced_size(limits.ANNOUNCED_SIZE),
        limits.whole_request(SMALLEST),
        limits.announced_size(limits.ACTUAL_SIZE),
        protocol.connect(),
        protocol.transcoder(
            contract, tuple(route.match.service_name for route in mesh.gateway_routes), edge.max_request_bytes
        ),
        gateway_rbac(contract, tokens),
        *limits.rate_limiters(),
        protocol.health_bridge(),
        _router(),
    ]
    manager = _manager(
        mesh,
        placement,
        edge.name,
        "edge",
        routes,
        filters,
        codec_type="AUTO",
        forward_client_cert_details="SANITIZE",
        use_remote_address=True,
        xff_num_trusted_hops=edge.trusted_hops,
        # No one is internal here, whatever address they come from: no client may give Envoy orders by x-envoy- headers,
        # and everyone's address is told to the processes. Without a range Envoy would take private addresses for
        # internal; no one calls from the broadcast address.
        internal_address_config={
            "unix_sockets": False,
            "cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}],
        },
        http2_protocol_options={
            "max_concurrent_streams": STREAMS,
            "initial_stream_window_size": STREAM_WINDOW,
            "initial_connection_window_size": CONNECTION_WINDOW,
            "connection_keepalive": {"interval": "60s", "timeout": "10s"},
        },
        common_http_protocol_options={
            "idle_timeout": IDLE,
            "max_connection_duration": seconds(mesh.max_connection_duration),
            "headers_with_underscores_action": "DROP_HEADER",
            "max_headers_count": 64,
        },
    )
    return {
        "name": names.ingress_listener(edge.port_mapping.port),
        "address": _tcp(placement.listener),
        **(
            {"additional_addresses": [{"address": _tcp(address)} for address in more]}
            if (more := placement.additional_addresses)
            else {}
        ),
        "traffic_direction": "INBOUND",
        "per_connection_buffer_limit_bytes": CONNECTION_BUFFER,
        "filter_chains": [
            {
                "filters": [manager],
                "transport_socket": public_server(placement),
                "transport_socket_connect_timeout": "10s",
            }
        ],
    }


def gateway_health() -> Resource:
    """Answers the gateway's grpc.health.v1 check from inside: SERVING while this Envoy takes traffic.

    Load balancers ask about the gateway itself.
    """
    states = health_pb2.HealthCheckResponse
    mappers = [_health_answer(200, states.SERVING), _health_answer(503, states.NOT_SERVING)]
    manager = extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="health",
        codec_type="HTTP1",
        route_config={"name": "health", "virtual_hosts": [{"name": "health", "domains": ["*"], "routes": []}]},
        local_reply_config={"mappers": mappers},
        http_filters=[protocol.liveness(HEALTH_PATH), _router()],
    )
    return {"name": names.HEALTH_LISTENER, "internal_listener": {}, "filter_chains": [{"filters": [manager]}]}


def observed(mesh: Mesh, node: str, placement: Placement, address: Address) -> Resource:
    """Probes and metrics, for those who have no certificate and can't dial the process's sockets.

    `/started` while this Envoy takes traffic, and `/ready` while the process behind it says SERVING as well. Of Envoy's
    administration nothing is reached but its metrics.
    """
    behind = (names.local_cluster(mesh, node),) if node in mesh.nodes else ()
    routes = [_metrics_route("/metrics/envoy", names.ADMIN_CLUSTER, "/stats/prometheus?usedonly")]
    if placement.metrics_socket is not None:
        routes.append(_metrics_route("/metrics", names.METRICS_CLUSTER, "/metrics"))
    # By its address alone, where that is known: a web page can have a name of its own lead to this machine.
    hosts = ["*"] if address.host == "0.0.0.0" else [address.host]
    manager = extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="observed",
        codec_type="HTTP1",
        route_config={"name": "observed", "virtual_hosts": [{"name": "observed", "domains": hosts, "routes": routes}]},
        strip_any_host_port=True,
        http_filters=[protocol.liveness(STARTED_PATH), protocol.liveness(READY_PATH, behind), _router()],
        request_headers_timeout=seconds(HEADERS_TIMEOUT),
        request_timeout=seconds(REQUEST_TIMEOUT),
        common_http_protocol_options={"idle_timeout": IDLE, "max_connection_duration": IDLE},
    )
    return {
        "name": names.OBSERVED_LISTENER,
        "address": _tcp(address),
        "traffic_direction": "INBOUND",
        "per_connection_buffer_limit_bytes": CONNECTION_BUFFER,
        # An Envoy that is full is not sick: it must not be started anew for that.
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
        "filter_chains": [{"filters": [manager]}],
    }


def _metrics_route(path: str, cluster: str, there: str) -> Resource:
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    return {
        "name": path,
        "match": {"path": path, "headers": [get]},
        "route": {"cluster": cluster, "timeout": "5s", "prefix_rewrite": there},
    }


def _health_answer(code: int, state: int) -> Resource:
    body = base64.b64encode(health_pb2.HealthCheckResponse(status=state).SerializeToString()).decode()
    return {
        "filter": {
            "status_code_filter": {
                "comparison": {"op": "EQ", "value": {"default_value": code, "runtime_key": f"health.{code}"}}
            }
        },
        "status_code": 200,
        "body": {"inline_bytes": body},
        "body_format_override": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": "application/x-protobuf",
        },
    }


def _manager(
    mesh: Mesh,
    placement: Placement,
    node: str,
    listener: str,
    routes: Resource,
    filters: list[Resource],
    **fields: object,
) -> Resource:
    """An HTTP connection manager with what is the same everywhere: logs, traces, local replies, limits."""
    return extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=listener,
        **{
            "http2_protocol_options": {"connection_keepalive": {"interval": "60s", "timeout": "10s"}},
            **fields,
            **routes,
        },
        http_filters=filters,
        local_reply_config=local_reply_config(edge=listener == "edge"),
        access_log=access_log(placement, listener),
        tracing=_tracing(mesh, placement, node, listener),
        early_header_mutation_extensions=[
            extension(
                "envoy.http.early_header_mutation.header_mutation",
                "http.early_header_mutation.header_mutation.v3.HeaderMutation",
                mutations=early_mutations(listener, trust_traces=listener != "edge" or mesh.tracing.trust_clients),
            )
        ],
        max_request_headers_kb=_EDGE_HEADER_KIB if listener == "edge" else _MESH_HEADER_KIB,
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        # At every hop: a node may be compromised.
        request_headers_timeout=seconds(HEADERS_TIMEOUT),
        request_timeout=seconds(REQUEST_TIMEOUT),
        stream_flush_timeout=seconds(FLUSH_TIMEOUT),
        server_name="authmesh",
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        # Left as it came: the id must be the same in the client's log and in ours.
        request_id_extension={"typed_config": typed("request_id.uuid.v3.UuidRequestIdConfig", pack_trace_reason=False)},
    )


def _tracing(mesh: Mesh, placement: Placement, node: str, listener: str) -> Resource:
    """Every call gets a W3C trace context, which the logs of all hops share.

    The edge decides which calls are traced, and who is behind it follows. Without a collector none are; Envoy demands
    an exporter all the same.
    """
    cluster = names.COLLECTOR_CLUSTER if placement.collector else "none"
    host = f"{placement.collector.host}:{placement.collector.port}" if placement.collector else "collector"
    percent = mesh.tracing.sampling if placement.trace_percent is None else placement.trace_percent
    exporter = {"http_uri": {"uri": f"http://{host}/v1/traces", "cluster": cluster, "timeout": "1s"}}
    edge = listener == "edge"
    return {
        # Of what comes without a word about its trace. A sidecar asks its sampler about all.
        "random_sampling": {"value": 0 if not placement.collector else percent if edge else 100},
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "service_name": f"{node} {listener}" if listener != "edge" else node,
                "http_service": exporter,
                **({} if edge else {"sampler": _as_the_caller_says()}),
            },
        },
    }


def _as_the_caller_says() -> Resource:
    """A sampler for sidecars: what is behind a traced call is traced, and nothing else."""
    never = extension(
        "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
        "tracers.opentelemetry.samplers.v3.TraceIdRatioBasedSamplerConfig",
        sampling_percentage={"numerator": 0, "denominator": "HUNDRED"},
    )
    return extension(
        "envoy.tracers.opentelemetry.samplers.parent_based",
        "tracers.opentelemetry.samplers.v3.ParentBasedSamplerConfig",
        wrapped_sampler=never,
    )


def _router() -> Resource:
    return extension("envoy.filters.http.router", "filters.http.router.v3.Router", suppress_envoy_headers=True)


def _tcp(address: Address | None) -> Resource:
    if address is None:
        raise ValueError("the placement of this node names no address to listen at")
    return {"socket_address": {"address": address.host, "port_value": address.port}}
