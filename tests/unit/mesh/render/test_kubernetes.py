"""The Kustomize base: valid Kubernetes, restricted pods, and no way open that mesh.yaml does not name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from mesh.contract import Contract
from mesh.model.mesh import load_mesh
from mesh.render.envoy import Address, RenderError, TokenRules
from mesh.render.kubernetes import Images, KubernetesRenderer

MESH = load_mesh()
NAMESPACE = "identity"
IMAGES = Images("registry.test/authmesh@sha256:1", "registry.test/envoy@sha256:2")
RENDERER = KubernetesRenderer(TokenRules("https://auth.test", "shop", 60), NAMESPACE, IMAGES, trusted_hops=1)
FILES = RENDERER.render(MESH, Contract.load())
KUSTOMIZATION = yaml.safe_load(FILES["kustomization.yaml"])
OBJECTS: list[Any] = [one for name in KUSTOMIZATION["resources"] for one in yaml.safe_load_all(FILES[name])]
MIGRATIONS: list[Any] = list(yaml.safe_load_all(FILES["migrations/migrations.yaml"]))
GATEWAY = MESH.virtual_gateway.name
NODES = (*MESH.nodes, GATEWAY)
VERSION = "1.34"
"""The cluster of deploy/aws/compute.yaml."""
CRDS = ("cert-manager.io/v1",)
ENVOY_ONLY = {"config", "identity", "admin"}


def found(kind: str, name: str) -> Any:
    (one,) = (one for one in OBJECTS if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return one


def pod(node: str) -> Any:
    return found("Deployment", node)["spec"]["template"]["spec"]


def containers(node: str) -> list[Any]:
    return [*pod(node).get("initContainers", ()), *pod(node)["containers"]]


def envoy(node: str) -> Any:
    return next(container for container in containers(node) if container["name"] == "envoy")


@pytest.mark.parametrize(
    "resource", [*OBJECTS, *MIGRATIONS], ids=lambda one: f"{one['kind']}-{one['metadata']['name']}"
)
def test_kubernetes_takes_it_without_a_field_that_it_does_not_know(resource: Any) -> None:
    if resource["apiVersion"] not in CRDS:
        kubernetes_validate.validate(resource, VERSION, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_seen() -> None:
    wrong = yaml.safe_load(yaml.safe_dump(found("Deployment", "auth")))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_no_two_objects_have_one_name() -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in OBJECTS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("node", NODES)
def test_a_node_has_all_that_keeps_it_running(node: str) -> None:
    for kind in ("ServiceAccount", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"):
        assert found(kind, node)
    labels = found("Deployment", node)["spec"]["template"]["metadata"]["labels"]
    assert found("Deployment", node)["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert found("Service", node)["spec"]["selector"].items() <= labels.items()
    assert found("PodDisruptionBudget", node)["spec"]["selector"]["matchLabels"].items() <= labels.items()
    ports = (
        {port["containerPort"] for container in containers(node) for port in container["ports"] or ()}
        if (node == GATEWAY)
        else {port["containerPort"] for port in envoy(node)["ports"]}
    )
    assert {port["targetPort"] for port in found("Service", node)["spec"]["ports"]} <= ports
    assert pod(node)["serviceAccountName"] == node
    assert found("HorizontalPodAutoscaler", node)["spec"]["minReplicas"] >= 2
    assert "replicas" not in found("Deployment", node)["spec"]


@pytest.mark.parametrize("node", NODES)
def test_a_pod_is_restricted_and_bounded(node: str) -> None:
    assert pod(node)["automountServiceAccountToken"] is False
    security = pod(node)["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] != 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(node):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["resources"]["limits"].keys() == {"memory"}
    for volume in pod(node)["volumes"]:
        assert volume.keys() - {"name"} <= {"configMap", "csi", "emptyDir", "secret"}
        assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": None})
    labels = found("Namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("node", MESH.nodes)
def test_envoy_begins_before_the_process_and_ends_after_it(node: str) -> None:
    (sidecar,), (process,) = pod(node)["initContainers"], pod(node)["containers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/started"
    assert sidecar["readinessProbe"]["httpGet"]["path"] == "/ready"
    drain = process["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert drain > 5 + 5, "callers have looked the names up again: CoreDNS keeps them 5 s, Envoys ask every 5 s"
    assert pod(node)["terminationGracePeriodSeconds"] >= drain + 20


@pytest.mark.parametrize("node", MESH.nodes)
def test_the_process_gets_neither_the_key_of_the_certificate_nor_envoys_administration(node: str) -> None:
    (process,) = pod(node)["containers"]
    assert not {mount["name"] for mount in process["volumeMounts"]} & ENVOY_ONLY
    assert {mount["name"] for mount in envoy(node)["volumeMounts"]} >= ENVOY_ONLY


@pytest.mark.parametrize("node", NODES)
def test_what_is_mounted_is_there_and_what_envoy_reads_is_mounted(node: str) -> None:
    volumes = {volume["name"] for volume in pod(node)["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in envoy(node)["volumeMounts"]}
    assert {mount["name"] for container in containers(node) for mount in container["volumeMounts"]} == volumes
    (generated,) = (one for one in KUSTOMIZATION["configMapGenerator"] if one["name"] == f"{node}-envoy")
    assert {volume["configMap"]["name"] for volume in pod(node)["volumes"] if "configMap" in volume} == {
        f"{node}-envoy"
    }
    assert all(name in FILES for name in generated["files"])
    assert sum(len(FILES[name].encode()) for name in generated["files"]) < 1_000_000, "what a ConfigMap holds"
    present = {f"/etc/envoy/{name.rpartition('/')[2]}" for name in generated["files"]}
    for name in generated["files"]:
        for path in paths(read(FILES[name])):
            assert path in present or path in mounts or path.rpartition("/")[0] in mounts or path.startswith("/dev/")


def read(text: str) -> Any:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def paths(value: Any) -> Iterator[str]:
    """Paths of files, directories and pipes in Envoy's configuration."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("path", "filename") and isinstance(item, str) and item.startswith(("/etc/", "/run/", "/dev/")):
                yield item
            yield from paths(item)
    elif isinstance(value, list):
        for item in value:
            yield from paths(item)


def test_migrations_are_made_for_each_database_by_a_pod_that_no_one_calls() -> None:
    account, job, policy = MIGRATIONS
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["command"][-len(MESH.nodes) :] == list(MESH.nodes)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["serviceAccountName"] == account["metadata"]["name"]
    assert policy["spec"]["podSelector"]["matchLabels"] == job["spec"]["template"]["metadata"]["labels"]
    assert "ingress" not in policy["spec"]
    assert all("ipBlock" in peer for rule in policy["spec"]["egress"] for peer in rule["to"])


def test_what_mesh_yaml_names_may_be_dialled_and_nothing_else() -> None:
    deny = found("NetworkPolicy", "default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for caller in NODES:
        named = {*MESH.nodes} if caller == GATEWAY else {*MESH.backend_nodes(caller), MESH.jwks_node()}
        assert dialled(caller) == named
        for node in MESH.nodes:
            assert (caller in callers(node)) == (node in named), f"{caller} to {node}"


def test_spans_go_to_the_collector_that_was_named_and_its_namespace_is_open() -> None:
    renderer = KubernetesRenderer(RENDERER.tokens, NAMESPACE, IMAGES, 1, Address("otel.watch", 4318))
    files = renderer.render(MESH, Contract.load())
    (policy,) = [
        one for one in yaml.safe_load_all(files["network-policies.yaml"]) if one["metadata"]["name"] == "spans"
    ]
    assert policy["spec"]["egress"] == [
        {
            "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "watch"}}}],
            "ports": [{"protocol": "TCP", "port": 4318}],
        }
    ]
    assert "value: http://otel.watch:4318/v1/traces" in files["auth.yaml"]
    for node in NODES:
        assert "cds_traces_collector" in files[f"envoy/{node}/cds.yaml"]
    elsewhere = KubernetesRenderer(RENDERER.tokens, NAMESPACE, IMAGES, 1, Address("10.0.0.1", 4318))
    with pytest.raises(RenderError, match=r"not <service>\.<namespace>"):
        elsewhere.render(MESH, Contract.load())


def test_only_the_edge_is_open_to_those_outside_and_it_dials_none_of_them() -> None:
    (rule,) = found("NetworkPolicy", GATEWAY)["spec"]["ingress"]
    assert rule == {"ports": [{"protocol": "TCP", "port": MESH.virtual_gateway.port_mapping.port}]}
    for rule in found("NetworkPolicy", GATEWAY)["spec"]["egress"]:
        assert all("podSelector" in peer for peer in rule["to"])
    for node in MESH.nodes:
        assert all(
            "podSelector" in peer for rule in found("NetworkPolicy", node)["spec"]["ingress"] for peer in rule["from"]
        )


def test_no_pod_reaches_the_machines_credentials() -> None:
    for node in MESH.nodes:
        for rule in found("NetworkPolicy", node)["spec"]["egress"]:
            for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer):
                assert block["cidr"] != "0.0.0.0/0" or "169.254.169.254/32" in block["except"]


def dialled(node: str) -> set[str]:
    rules = found("NetworkPolicy", node)["spec"]["egress"]
    return {name_of(peer) for rule in rules for peer in rule["to"] if "podSelector" in peer}


def callers(node: str) -> set[str]:
    return {name_of(peer) for rule in found("NetworkPolicy", node)["spec"]["ingress"] for peer in rule["from"]}


def name_of(peer: Any) -> str:
    return str(peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"])


@pytest.mark.parametrize("node", MESH.nodes)
def test_process_and_envoy_agree_on_who_is_who(node: str) -> None:
    (process,) = pod(node)["containers"]
    environment = {item["name"]: item["value"] for item in process["env"]}
    assert environment["SPIFFE_PATH"] == f"ns/{NAMESPACE}/sa/{{node}}"
    assert environment["ISSUER"] == "https://auth.test"
    assert environment["AUDIENCE"] == "shop"
    assert f"spiffe://authmesh/ns/{NAMESPACE}/sa/" in FILES[f"envoy/{node}/lds.yaml"]
    assert "https://auth.test" in FILES[f"envoy/{node}/lds.yaml"]
    assert f"token.{NAMESPACE}.svc.cluster.local." in FILES[f"envoy/{node}/cds.yaml"]
    for path in ("SOCKET", "EGRESS"):
        assert Path(environment[path]).parent == Path("/run/authmesh")


def test_a_scraper_is_led_to_metrics_and_let_in_where_its_namespace_is_labelled() -> None:
    (rule,) = found("NetworkPolicy", "scrapers")["spec"]["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"authmesh/scrapers": "allowed"}}}]
    (port,) = (port["port"] for port in rule["ports"])
    for node in NODES:
        annotations = found("Deployment", node)["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == str(port)
        assert f'"path": "{annotations["prometheus.io/path"]}"' in json.dumps(read(FILES[f"envoy/{node}/lds.yaml"]))
        (observed,) = (one["containerPort"] for one in envoy(node)["ports"] if one["name"] == "observed")
        assert observed == port


def test_images_and_the_edges_hops_are_as_they_were_chosen() -> None:
    assert {container["image"] for node in NODES for container in containers(node)} == {IMAGES.service, IMAGES.envoy}
    assert "xff_num_trusted_hops: 1" in FILES[f"envoy/{GATEWAY}/lds.yaml"]


def test_another_bootstrap_replaces_the_pods_and_other_routes_do_not() -> None:
    def template(**changes: Any) -> Any:
        gateway = MESH.virtual_gateway.model_copy(update=changes)
        changed = RENDERER.render(MESH.model_copy(update={"virtual_gateway": gateway}), Contract.load())
        deployment = next(one for one in yaml.safe_load_all(changed[f"{GATEWAY}.yaml"]) if one["kind"] == "Deployment")
        return deployment["spec"]["template"], changed[f"envoy/{GATEWAY}/lds.yaml"]

    before, listeners = template()
    after, changed = template(max_requests=17)
    assert after == before
    assert changed != listeners
    assert template(max_connections=17)[0] != before


def test_identities_may_be_asked_for_by_the_pods_of_the_mesh_alone() -> None:
    assert {one["name"] for one in found("RoleBinding", "identities")["subjects"]} == set(NODES)
    (rule,) = found("Role", "identities")["rules"]
    assert rule == {"apiGroups": ["cert-manager.io"], "resources": ["certificaterequests"], "verbs": ["create"]}
