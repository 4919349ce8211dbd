"""The pod of a node: the service's process and its Envoy, which starts before it and ends after it.

Envoy is a native sidecar (Kubernetes 1.33): an init container that goes on running. The process begins once Envoy's
startup probe has succeeded, and Envoy is told to end once the process has ended. Both are user 1337, so the sockets
between them are open to no one else; the certificate's key and Envoy's administration are mounted for Envoy alone.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mesh.model.mesh import Mesh
from mesh.render.envoy import BOOTSTRAP_FILE, Address, Placement, TokenRules, arguments
from mesh.render.envoy.renderer import CONFIG, SOCKETS, placed
from mesh.render.kubernetes.network import OBSERVED_PORT
from mesh.render.kubernetes.objects import PART_OF, Object, selector

USER = 1337
"""App Mesh's user for Envoy, and the group of what both containers share."""
CERTIFICATES = Path("/run/certificates")
PUBLIC_CERTIFICATES = Path("/run/public")
ADMIN = Path("/run/envoy")
PUBLIC_SECRET = "edge-public"

DRAIN_SECONDS = 15
"""From a pod's end until its process is told.

Callers' Envoys look names up every 5 s, and CoreDNS keeps them for 5 s.
"""
EDGE_DRAIN_SECONDS = 70
"""From an edge pod's end until its Envoy is told: the load balancer sends calls for up to 60 s (edge.yaml)."""
_PROCESS_ENDS = 30
_WORKERS = 2
_ENVOY_MEMORY_FACTOR = 1.25
"""Memory of an Envoy's container, as a multiple of the heap at which it stops taking requests."""

# Measured on an idle mesh: processes hold 88 to 145 MB, an Envoy 28 MB (docs/kubernetes.md).
_PROCESS_REQUESTS = {"cpu": "250m", "memory": "192Mi"}
_PROCESS_LIMITS = {"memory": "512Mi"}
_ENVOY_REQUESTS = {"cpu": "100m", "memory": "64Mi"}
_EDGE_REQUESTS = {"cpu": "500m", "memory": "128Mi"}


@dataclass(frozen=True, slots=True)
class Images:
    """What the containers are made of."""

    service: str
    """All services."""
    envoy: str


def placement(mesh: Mesh, node: str, namespace: str, collector: Address | None = None) -> Placement:
    """Where the Envoy of a pod is."""
    is_gateway = node == mesh.virtual_gateway.name
    return replace(
        placed(mesh, node),
        certificates=CERTIFICATES,
        admin_socket=ADMIN / "admin",
        # With the final dot: what a cluster's search list makes of a name is not to be guessed.
        nodes={
            name: Address(f"{name}.{namespace}.svc.cluster.local.", found.listener.port_mapping.port)
            for name, found in mesh.nodes.items()
        },
        public_certificates=PUBLIC_CERTIFICATES if is_gateway else None,
        observed=Address("0.0.0.0", OBSERVED_PORT),
        metrics_socket=None if is_gateway else SOCKETS / "metrics",
        collector=collector,
    )


def node_pod(
    mesh: Mesh,
    node: str,
    tokens: TokenRules,
    images: Images,
    files: Mapping[str, str],
    collector: Address | None = None,
) -> Object:
    """The pod template of a service."""
    envoy = _envoy(mesh, images, _ENVOY_REQUESTS)
    envoy["restartPolicy"] = "Always"
    envoy["ports"].insert(0, {"name": "grpc", "containerPort": mesh.nodes[node].listener.port_mapping.port})
    envoy["volumeMounts"].append({"name": "sockets", "mountPath": str(SOCKETS)})
    process = {
        "name": node,
        "image": images.service,
        "command": ["python", "-I", "-m", f"services.{node}.main"],
        "env": [{"name": name, "value": value} for name, value in _environment(mesh, node, tokens, collector).items()],
        # What differs between clusters: for all services, and for this one.
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"configMapRef": {"name": f"{node}-settings"}}],
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}},
        "resources": {"requests": _PROCESS_REQUESTS, "limits": _PROCESS_LIMITS},
        "securityContext": _restricted(),
        "volumeMounts": [
            {"name": "sockets", "mountPath": str(SOCKETS)},
            {"name": "temporary", "mountPath": "/tmp"},
        ],
    }
    volumes = [_memory("sockets"), _memory("admin"), {"name": "temporary", "emptyDir": {"sizeLimit": "64Mi"}}]
    return _template(
        node,
        files,
        {
            "terminationGracePeriodSeconds": DRAIN_SECONDS + _PROCESS_ENDS,
            "initContainers": [envoy],
            "containers": [process],
            "volumes": [*volumes, _config(node), _identity()],
        },
    )


def gateway_pod(mesh: Mesh, images: Images, files: Mapping[str, str]) -> Object:
    """The pod template of the edge: an Envoy and nothing else."""
    gateway = mesh.virtual_gateway
    envoy = _envoy(mesh, images, _EDGE_REQUESTS)
    envoy["ports"].insert(0, {"name": "https", "containerPort": gateway.port_mapping.port})
    envoy["volumeMounts"].append({"name": "public", "mountPath": str(PUBLIC_CERTIFICATES), "readOnly": True})
    envoy["lifecycle"] = {"preStop": {"sleep": {"seconds": EDGE_DRAIN_SECONDS}}}
    public = {"name": "public", "secret": {"secretName": PUBLIC_SECRET, "defaultMode": 0o440}}
    return _template(
        gateway.name,
        files,
        {
            "terminationGracePeriodSeconds": EDGE_DRAIN_SECONDS + _PROCESS_ENDS,
            "containers": [envoy],
            "volumes": [_memory("admin"), _config(gateway.name), _identity(), public],
        },
    )


def migrations_job(nodes: Sequence[str], images: Images) -> Object:
    """What makes the databases of services, and brings them up to date. It is there until an hour after its end."""
    name = "migrations"
    container = {
        "name": name,
        "image": images.service,
        "command": ["python", "-I", "-m", "mesh.storage.provisioning", *nodes],
        "envFrom": [{"configMapRef": {"name": f"{name}-settings"}}],
        "resources": {"requests": _PROCESS_REQUESTS, "limits": _PROCESS_LIMITS},
        "securityContext": _restricted(),
        "volumeMounts": [{"name": "temporary", "mountPath": "/tmp"}],
    }
    pod = {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "securityContext": _restricted_pod(),
        "containers": [container],
        "volumes": [{"name": "temporary", "emptyDir": {"sizeLimit": "64Mi"}}],
    }
    return {
        "backoffLimit": 3,
        "activeDeadlineSeconds": 900,
        "ttlSecondsAfterFinished": 3600,
        "template": {"metadata": {"labels": selector(name)}, "spec": pod},
    }


def _restricted_pod() -> Object:
    """Security of a pod, as the Pod Security Standard `restricted` wants it."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _restricted() -> Object:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _environment(mesh: Mesh, node: str, tokens: TokenRules, collector: Address | None) -> dict[str, str]:
    """What the process must have as its Envoy has it."""
    endpoint = f"http://{collector.host}:{collector.port}/v1/traces" if collector else None
    return {
        **({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint} if endpoint else {}),
        "NODE": node,
        "TRUST_DOMAIN": mesh.trust_domain,
        "SPIFFE_PATH": mesh.spiffe_path,
        "SOCKET": str(SOCKETS / "service"),
        "EGRESS": str(SOCKETS / "egress"),
        "METRICS": str(SOCKETS / "metrics"),
        "ISSUER": tokens.issuer,
        "AUDIENCE": tokens.audience,
        "JWKS_CACHE_SECONDS": str(tokens.jwks_cache),
    }


def _envoy(mesh: Mesh, images: Images, requests: Mapping[str, str]) -> Object:
    heap = mesh.virtual_gateway.max_heap_bytes
    return {
        "name": "envoy",
        "image": images.envoy,
        "command": ["/usr/local/bin/envoy"],
        "args": list(arguments(str(CONFIG / BOOTSTRAP_FILE), workers=_WORKERS)),
        "ports": [{"name": "observed", "containerPort": OBSERVED_PORT}],
        "startupProbe": _probe("/started", period=1, failures=60),
        "readinessProbe": _probe("/ready", period=5, failures=2),
        "livenessProbe": _probe("/started", period=10, failures=6),
        "resources": {
            "requests": dict(requests),
            "limits": {"memory": f"{int(heap * _ENVOY_MEMORY_FACTOR) // 2**20}Mi"},
        },
        "securityContext": _restricted(),
        "volumeMounts": [
            {"name": "config", "mountPath": str(CONFIG), "readOnly": True},
            {"name": "identity", "mountPath": str(CERTIFICATES), "readOnly": True},
            {"name": "admin", "mountPath": str(ADMIN)},
        ],
    }


def _probe(path: str, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "observed"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _template(node: str, files: Mapping[str, str], spec: Object) -> Object:
    # A running Envoy takes up all of its files but this one.
    bootstrap = hashlib.sha256(files[BOOTSTRAP_FILE].encode()).hexdigest()[:16]
    spread = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector(node)},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return {
        "metadata": {
            "labels": {**selector(node), **PART_OF},
            "annotations": {
                "kubectl.kubernetes.io/default-container": spec["containers"][0]["name"],
                "authmesh/bootstrap": bootstrap,
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(OBSERVED_PORT),
                "prometheus.io/path": "/metrics" if spec.get("initContainers") else "/metrics/envoy",
            },
        },
        "spec": {
            "serviceAccountName": node,
            "automountServiceAccountToken": False,
            # Names of Services as variables: there are many, and none is read.
            "enableServiceLinks": False,
            "securityContext": _restricted_pod(),
            "topologySpreadConstraints": spread,
            **spec,
        },
    }


def _memory(name: str) -> Object:
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}


def _config(node: str) -> Object:
    return {"name": "config", "configMap": {"name": f"{node}-envoy", "defaultMode": 0o440}}


def _identity() -> Object:
    """The pod's certificate, by cert-manager's csi-driver-spiffe: its key never leaves the machine."""
    driver = {
        "driver": "spiffe.csi.cert-manager.io",
        "readOnly": True,
        "volumeAttributes": {"spiffe.csi.cert-manager.io/fs-group": str(USER)},
    }
    return {"name": "identity", "csi": driver}
