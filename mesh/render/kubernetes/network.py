"""NetworkPolicies: nothing is open but what mesh.yaml names, and what every service stands on.

mTLS says who a peer is; this keeps those who are not of the mesh from trying.
"""

from collections.abc import Sequence

from mesh.model.agreement import RenderError
from mesh.model.mesh import Mesh
from mesh.render.envoy import Address
from mesh.render.kubernetes.objects import PART_OF, Object, kind, selector

OBSERVED_PORT = 15021
"""Of probes and metrics."""
SCRAPERS = "authmesh/scrapers"
"""Label of a namespace whose pods may read metrics."""
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8")
_STORES = (5432, 6379)
"""PostgreSQL and Valkey, at private addresses."""
_POD_IDENTITY = "169.254.170.23/32"
"""The agent of EKS Pod Identity on each machine."""
_INSTANCE_METADATA = "169.254.169.254/32"


def policies(mesh: Mesh) -> list[Object]:
    """All policies of the namespace."""
    gateway = mesh.virtual_gateway.name
    calls = {name: mesh.peers(name) for name in mesh.nodes}
    calls[gateway] = tuple(dict.fromkeys((*mesh.opened_nodes(), mesh.jwks_node())))
    return [
        _default_deny(),
        _names(),
        _scrapers(),
        *(_node(mesh, name, calls) for name in mesh.nodes),
        _gateway(mesh, calls[gateway]),
    ]


def spans(collector: Address) -> Object:
    """The way to the collector of traces, a Service in another namespace.

    Raises:
        RenderError: its name doesn't say in which.
    """
    _, _, rest = collector.host.partition(".")
    if not (namespace := rest.partition(".")[0]) or namespace.isdigit():
        raise RenderError(f"the collector {collector.host} is not <service>.<namespace> of this cluster")
    to = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    spec = {
        "podSelector": {"matchLabels": PART_OF},
        "policyTypes": ["Egress"],
        "egress": [{"to": [to], "ports": [_port(collector.port)]}],
    }
    return kind("networking.k8s.io/v1", "NetworkPolicy", "spans", spec=spec)


def _default_deny() -> Object:
    return kind(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "default-deny",
        spec={"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    )


def _names() -> Object:
    """DNS."""
    to = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    rule = {"to": [to], "ports": [_port(53, "UDP"), _port(53)]}
    return kind(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "dns",
        spec={"podSelector": {"matchLabels": PART_OF}, "policyTypes": ["Egress"], "egress": [rule]},
    )


def _scrapers() -> Object:
    """Prometheus, from namespaces that are labelled for it."""
    labelled = {"namespaceSelector": {"matchLabels": {SCRAPERS: "allowed"}}}
    rule = {"from": [labelled], "ports": [_port(OBSERVED_PORT)]}
    return kind(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "scrapers",
        spec={"podSelector": {"matchLabels": PART_OF}, "policyTypes": ["Ingress"], "ingress": [rule]},
    )


def _node(mesh: Mesh, node: str, calls: dict[str, tuple[str, ...]]) -> Object:
    port = mesh.nodes[node].listener.port_mapping.port
    # A node that gets its own JWKS through its own name calls itself.
    callers = [name for name, called in calls.items() if node in called]
    spec = {
        "podSelector": {"matchLabels": selector(node)},
        "policyTypes": ["Ingress", "Egress"],
        # The kubelet of its machine always reaches a pod; no one else asks its probes.
        "ingress": [{"from": _pods(callers), "ports": [_port(port)]}],
        "egress": [*_backends(mesh, calls[node]), *_outside()],
    }
    return kind("networking.k8s.io/v1", "NetworkPolicy", node, spec=spec)


def outside_only(name: str) -> Object:
    """For pods that no one calls, and that call no one in the mesh."""
    spec = {
        "podSelector": {"matchLabels": selector(name)},
        "policyTypes": ["Ingress", "Egress"],
        "egress": _outside(),
    }
    return kind("networking.k8s.io/v1", "NetworkPolicy", name, spec=spec)


def _outside() -> list[Object]:
    return [
        {"to": [_block(cidr) for cidr in _PRIVATE], "ports": [_port(port) for port in _STORES]},
        {"to": [_block(_POD_IDENTITY)], "ports": [_port(80)]},
        # AWS, identity providers, and whom a webhook is sent to.
        {"to": [_block("0.0.0.0/0", but=_INSTANCE_METADATA), _block("::/0")], "ports": [_port(443)]},
    ]


def _gateway(mesh: Mesh, called: Sequence[str]) -> Object:
    gateway = mesh.virtual_gateway
    spec = {
        "podSelector": {"matchLabels": selector(gateway.name)},
        "policyTypes": ["Ingress", "Egress"],
        # From everywhere: the load balancer's security group says from where.
        "ingress": [{"ports": [_port(gateway.port_mapping.port)]}],
        "egress": _backends(mesh, called),
    }
    return kind("networking.k8s.io/v1", "NetworkPolicy", gateway.name, spec=spec)


def _backends(mesh: Mesh, called: Sequence[str]) -> list[Object]:
    by_port: dict[int, list[str]] = {}
    for name in called:
        by_port.setdefault(mesh.nodes[name].listener.port_mapping.port, []).append(name)
    return [{"to": _pods(names), "ports": [_port(port)]} for port, names in by_port.items()]


def _pods(names: Sequence[str]) -> list[Object]:
    return [{"podSelector": {"matchLabels": selector(name)}} for name in names]


def _block(cidr: str, but: str | None = None) -> Object:
    return {"ipBlock": {"cidr": cidr, **({"except": [but]} if but else {})}}


def _port(port: int, protocol: str = "TCP") -> Object:
    return {"protocol": protocol, "port": port}
