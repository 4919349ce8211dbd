"""The processes of the mesh itself: for each node of mesh.yaml a service and its sidecar, and the edge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesh.contract import Contract
from mesh.local import service_settings
from mesh.local.authority import MeshAuthorities
from mesh.local.components import service, sidecar
from mesh.local.databases import ServiceDatabase
from mesh.local.edge_address import EdgeAddress
from mesh.local.event_stack import EventStack
from mesh.local.health import GrpcHealth
from mesh.local.infra import Infra
from mesh.local.options import Options
from mesh.local.ports import HOST, HeldPorts
from mesh.local.process import Program
from mesh.local.servers import Servers
from mesh.model.mesh import Mesh
from mesh.operator.local_service import LocalPlace, UserPool, local_service
from mesh.operator.state_dir import StateDir
from mesh.render.envoy import Address, Placement, TokenRules, render

AUDIENCE = "authmesh"


@dataclass(frozen=True, slots=True)
class Topology:
    """Where everything of this mesh is on this machine."""

    home: StateDir
    infra: Infra
    sockets: Path
    edge: EdgeAddress
    mesh: Mesh
    authorities: MeshAuthorities
    addresses: Mapping[str, Address]
    """The ingress of each node."""
    observed: Mapping[str, Address]
    """Where each Envoy is looked at."""
    collector: Address
    """Where spans of traced calls go."""
    choices: Options
    """What its user wants."""
    own: Mapping[str, service.OwnCommand]
    """How the services start that are not ours."""
    reload: bool
    """Whether running Envoys take up another mesh.yaml (`mesh.local.apply`)."""

    @classmethod
    def chosen(
        cls,
        home: StateDir,
        infra: Infra,
        sockets: Path,
        edge: EdgeAddress,
        mesh: Mesh,
        authorities: MeshAuthorities,
        ports: HeldPorts,
        choices: Options,
        own: Mapping[str, service.OwnCommand],
        *,
        reload: bool,
    ) -> "Topology":
        """With a port for each node's ingress.

        Raises:
            OperatorError: there are no free ports.
        """
        addresses = {node: Address(HOST, ports.hold_any()) for node in mesh.nodes}
        envoys = (*mesh.nodes, mesh.virtual_gateway.name)
        observed = {name: Address(HOST, ports.hold_any()) for name in envoys}
        collector = Address(HOST, ports.hold_any())
        return cls(home, infra, sockets, edge, mesh, authorities, addresses, observed, collector, choices, own, reload)

    @property
    def gateway(self) -> str:
        """Name of the edge."""
        return self.mesh.virtual_gateway.name

    def admin_socket(self, name: str) -> Path:
        """Of an Envoy, by its node's name."""
        return self.sockets / f"{name}.admin"

    def metrics_socket(self, node: str) -> Path:
        """Where a service serves its metrics."""
        return self.sockets / f"{node}.metrics"

    def service_socket(self, node: str) -> Path:
        """Where a service serves."""
        return self.sockets / node

    def egress_socket(self, node: str) -> Path:
        """Where a service dials others."""
        return self.sockets / f"{node}.egress"


def sidecars(layout: Topology, contract: Contract) -> list[Program]:
    """The sidecar of each node.

    Raises:
        OperatorError: there is no Envoy, or files can't be written.
        RenderError: mesh.yaml disagrees with the access rules.
    """
    return [_envoy(layout, contract, node) for node in layout.mesh.nodes]


def edge(layout: Topology, contract: Contract) -> Program:
    """The edge.

    Raises:
        OperatorError: there is no Envoy, or files can't be written.
        RenderError: mesh.yaml disagrees with the access rules.
    """
    return _envoy(layout, contract, layout.gateway)


def services(
    layout: Topology,
    databases: Sequence[ServiceDatabase],
    servers: Servers,
    events: EventStack,
    user_pool: UserPool | None,
    probes: dict[str, GrpcHealth],
) -> list[Program]:
    """The service process of each node.

    Args:
        layout: Where things are.
        databases: Of the services.
        servers: What they stand on.
        events: Bus, queues and topic.
        user_pool: Where Cognito keeps the passwords.
        probes: Gets the health probe of each, to be closed at the end.

    Raises:
        OperatorError: the signing key can't be read or written.
    """
    stores = {
        database.node: {"DATABASE_URL": database.address, "DATABASE_SECRET": str(database.secret)}
        for database in databases
    }
    programs = []
    for node in layout.mesh.nodes:
        socket = layout.service_socket(node)
        probes[node] = GrpcHealth(socket)
        environment = {
            "TRUST_DOMAIN": layout.mesh.trust_domain,
            "SPIFFE_PATH": layout.mesh.spiffe_path,
            "EGRESS": str(layout.egress_socket(node)),
            "METRICS": str(layout.metrics_socket(node)),
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://{layout.collector.host}:{layout.collector.port}/v1/traces",
            # Only services of ours are known to read a password from where it is.
            **({"REDIS_URL": servers.redis_url} if node in layout.own else servers.redis),
            "ISSUER": layout.edge.url,
            "AUDIENCE": AUDIENCE,
            "JWKS_CACHE_SECONDS": str(layout.choices.jwks_cache),
            "EVENT_BUS": events.event_bus,
            "MESSAGES_TOPIC_ARN": events.messages_topic_arn,
            "ENVIRONMENT": "development",
            # While keys of one algorithm take over from those of another, both are good.
            **({"TOKEN_ALGORITHMS": "ES256,RS256"} if layout.choices.environment.get("SIGNING_ALGORITHM") else {}),
            "RATE_LIMIT_FACTOR": str(layout.choices.rate_limit_factor),
            **stores.get(node, {}),
            **servers.account.environment,
            **_own_settings(layout, node, events, user_pool),
            **service_settings.chosen(node, layout.choices.environment),
        }
        programs.append(
            service.program(node, socket, environment, layout.home.log(node), probes[node], layout.own.get(node))
        )
    return programs


def _own_settings(layout: Topology, node: str, events: EventStack, user_pool: UserPool | None) -> dict[str, str]:
    """What the service says that it needs here (`mesh.operator.local_service`)."""
    found = local_service(node)
    place = LocalPlace(
        layout.home.secrets, layout.choices.environment, layout.choices.jwks_cache, layout.edge.url, user_pool
    )
    return {name: events.outputs[output] for name, output in found.outputs.items()} | dict(found.settings(place))


def placement(layout: Topology, node: str) -> Placement:
    """Where the Envoy of a node is, or the edge."""
    is_edge = node == layout.gateway
    return Placement(
        config=layout.home.path / "envoy" / node,
        certificates=layout.authorities.certificates(node),
        admin_socket=layout.admin_socket(node),
        access_log=layout.home.log(f"{_program_name(layout, node)}-access"),
        nodes=layout.addresses,
        reload=layout.reload,
        ingress=None if is_edge else layout.addresses[node],
        service_socket=None if is_edge else layout.service_socket(node),
        egress_socket=None if is_edge else layout.egress_socket(node),
        observed=layout.observed[node],
        metrics_socket=None if is_edge else layout.metrics_socket(node),
        listener=Address(layout.edge.listening[0], layout.edge.port) if is_edge else None,
        additional_addresses=tuple(Address(host, layout.edge.port) for host in layout.edge.listening[1:])
        if is_edge
        else (),
        public_certificates=layout.authorities.public_certificates if is_edge else None,
        cors_origins=layout.choices.cors_origins,
        openapi=Contract.load().descriptor_file.with_name("openapi.json") if is_edge else None,
        collector=layout.collector,
        trace_percent=layout.choices.trace_percent,
        rate_limit_factor=layout.choices.rate_limit_factor,
    )


def token_rules(layout: Topology) -> TokenRules:
    """What sidecars demand of access tokens."""
    return TokenRules(layout.edge.url, AUDIENCE, layout.choices.jwks_cache)


def _program_name(layout: Topology, node: str) -> str:
    return node if node == layout.gateway else f"{node}-sidecar"


def _envoy(layout: Topology, contract: Contract, node: str) -> Program:
    is_edge = node == layout.gateway
    placed, name = placement(layout, node), _program_name(layout, node)
    return sidecar.program(
        layout.infra,
        name,
        render(layout.mesh, contract, node, placed, token_rules(layout)),
        placed.config,
        placed.admin_socket,
        layout.home.log(name),
        address=layout.edge.url if is_edge else f"{HOST}:{layout.addresses[node].port}",
        sockets=() if is_edge else (layout.egress_socket(node),),
    )
