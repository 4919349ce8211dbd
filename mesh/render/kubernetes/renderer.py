"""The files of the Kustomize base, of the migrations, which go before it, and of a component that may go with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mesh.contract import Contract
from mesh.model.mesh import Mesh
from mesh.render.envoy import Address, TokenRules
from mesh.render.envoy.renderer import EnvoyRenderer
from mesh.render.kubernetes import objects
from mesh.render.kubernetes.network import outside_only, policies, spans
from mesh.render.kubernetes.objects import Object, kind
from mesh.render.kubernetes.pod import PUBLIC_SECRET, Images, gateway_pod, migrations_job, node_pod, placement
from mesh.render.renderer import Files
from mesh.storage.revisions import versions

KUSTOMIZE = "kustomize.config.k8s.io/v1beta1"
MIGRATIONS = "migrations"
_POD_SECURITY = "pod-security.kubernetes.io"


@dataclass(frozen=True, slots=True)
class KubernetesRenderer:
    """`kustomization.yaml`, a file a node, and below `envoy/` what each Envoy reads."""

    tokens: TokenRules
    namespace: str
    images: Images
    trusted_hops: int | None = None
    """Proxies in front of the edge that append to X-Forwarded-For; as mesh.yaml says by default."""
    collector: Address | None = None
    """Where spans of traced calls go: a Service of this cluster, by a name that holds its namespace."""
    target: str = "kubernetes"

    def render(self, mesh: Mesh, contract: Contract) -> Files:
        """All files.

        Raises:
            RenderError: mesh.yaml disagrees with the access rules, or the collector is not a Service with its
                namespace.
        """
        # What cert-manager's csi-driver-spiffe calls a pod.
        changes: dict[str, object] = {"spiffe_path": f"ns/{self.namespace}/sa/{{node}}"}
        if self.trusted_hops is not None:
            changes["virtual_gateway"] = mesh.virtual_gateway.model_copy(update={"trusted_hops": self.trusted_hops})
        mesh = mesh.model_copy(update=changes)
        gateway = mesh.virtual_gateway.name
        envoys = EnvoyRenderer(self.tokens, lambda mesh, node: placement(mesh, node, self.namespace, self.collector))
        configuration = envoys.render(mesh, contract)
        read_by = {
            node: {name.split("/")[1]: text for name, text in configuration.items() if name.startswith(f"{node}/")}
            for node in (*mesh.nodes, gateway)
        }
        resources = {
            "namespace.yaml": [_namespace(self.namespace)],
            "network-policies.yaml": [*policies(mesh), *([spans(self.collector)] if self.collector else [])],
            "certificates.yaml": _certificates(self.namespace, (*mesh.nodes, gateway)),
        }
        for node, found in mesh.nodes.items():
            pod = node_pod(mesh, node, self.tokens, self.images, read_by[node], self.collector)
            service = objects.headless_service(node, found.listener.port_mapping.port, "grpc")
            resources[f"{node}.yaml"] = [*_running(node, pod), service]
        public = objects.cluster_service(gateway, mesh.virtual_gateway.port_mapping.port, "https")
        resources[f"{gateway}.yaml"] = [*_running(gateway, gateway_pod(mesh, self.images, read_by[gateway])), public]
        kustomization = {
            "apiVersion": KUSTOMIZE,
            "kind": "Kustomization",
            "namespace": self.namespace,
            "resources": list(resources),
            # Their names stay: a running Envoy takes up changed files by itself.
            "generatorOptions": {"disableNameSuffixHash": True, "labels": objects.PART_OF},
            "configMapGenerator": [
                {"name": f"{node}-envoy", "files": [f"envoy/{node}/{name}" for name in files]}
                for node, files in read_by.items()
            ],
        }
        return {
            "kustomization.yaml": objects.document(kustomization),
            **{f"migrations/{name}": text for name, text in _migrations(mesh, self.namespace, self.images).items()},
            **{f"secret-identities/{name}": text for name, text in _secret_identities((*mesh.nodes, gateway)).items()},
            **{name: objects.documents(content) for name, content in resources.items()},
            **{f"envoy/{name}": text for name, text in configuration.items()},
        }


def _migrations(mesh: Mesh, namespace: str, images: Images) -> Files:
    """What makes the databases and brings them up to date. A step of its own, before the services."""
    nodes = [node for node in mesh.nodes if versions(f"services.{node}") is not None]
    job = kind("batch/v1", "Job", MIGRATIONS, spec=migrations_job(nodes, images))
    kustomization = {
        "apiVersion": KUSTOMIZE,
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": ["migrations.yaml"],
    }
    made = [objects.service_account(MIGRATIONS), job, outside_only(MIGRATIONS)]
    return {
        "kustomization.yaml": objects.document(kustomization),
        "migrations.yaml": objects.documents(made),
    }


def _secret_identities(nodes: Sequence[str]) -> Files:
    """A component for clusters without csi-driver-spiffe: the identity of a node is in the Secret `<node>-identity`."""
    patches = []
    for node in nodes:
        secret = {"secretName": f"{node}-identity", "defaultMode": 0o440}
        volumes = [{"name": "identity", "csi": None, "secret": secret}]
        patch = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": node},
            "spec": {"template": {"spec": {"volumes": volumes}}},
        }
        patches.append({"patch": objects.document(patch)})
    component = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component", "patches": patches}
    return {"kustomization.yaml": objects.document(component)}


def _running(node: str, pod: Object) -> list[Object]:
    return [
        objects.service_account(node),
        objects.deployment(node, pod),
        objects.autoscaler(node),
        objects.disruption_budget(node),
    ]


def _namespace(name: str) -> Object:
    labels = {f"{_POD_SECURITY}/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    found = kind("v1", "Namespace", name)
    found["metadata"]["labels"] |= labels
    return found


def _certificates(namespace: str, nodes: Sequence[str]) -> list[Any]:
    """Who may ask for an identity, and the certificate that the load balancer sees, which it doesn't check."""
    rule = {"apiGroups": ["cert-manager.io"], "resources": ["certificaterequests"], "verbs": ["create"]}
    role = kind("rbac.authorization.k8s.io/v1", "Role", "identities", rules=[rule])
    binding = kind(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        "identities",
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "identities"},
        subjects=[{"kind": "ServiceAccount", "name": node, "namespace": namespace} for node in nodes],
    )
    issuer = kind("cert-manager.io/v1", "Issuer", PUBLIC_SECRET, spec={"selfSigned": {}})
    certificate = kind(
        "cert-manager.io/v1",
        "Certificate",
        PUBLIC_SECRET,
        spec={
            "secretName": PUBLIC_SECRET,
            "dnsNames": [f"edge.{namespace}.svc"],
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "usages": ["server auth"],
            "issuerRef": {"kind": "Issuer", "name": PUBLIC_SECRET},
        },
    )
    return [role, binding, issuer, certificate]
