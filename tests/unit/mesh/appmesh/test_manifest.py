"""What is read of App Mesh's manifests, and what is said of those that can't be."""

import json
from pathlib import Path
from typing import Any

import pytest

from mesh.appmesh import manifest, mesh_yaml
from mesh.appmesh.model import AppMesh
from mesh.model.document import DocumentError
from tests.kit.app_mesh import SAMPLES

MESH = """\
apiVersion: appmesh.k8s.aws/v1beta2
kind: Mesh
metadata: {name: shop}
spec: {namespaceSelector: {matchLabels: {mesh: shop}}}
"""
NODE = """\
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualNode
metadata: {name: cart, namespace: prod}
spec:
  listeners:
  - portMapping: {port: 8080, protocol: grpc}
    timeout: {grpc: {perRequest: {unit: s, value: 5}, idle: {unit: ms, value: 250}}}
  serviceDiscovery: {dns: {hostname: cart.prod}}
"""
ROUTER = """\
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualRouter
metadata: {name: cart, namespace: prod}
spec:
  listeners: [{portMapping: {port: 8080, protocol: grpc}}]
  routes:
  - name: all
    grpcRoute:
      match: {serviceName: shop.Cart}
      action: {weightedTargets: [{virtualNodeRef: {name: cart}, weight: 100}]}
"""
SERVICE = """\
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualService
metadata: {name: cart, namespace: prod}
spec: {provider: {virtualRouter: {virtualRouterRef: {name: cart}}}}
"""
WHOLE = MESH + NODE + ROUTER + SERVICE


def read(folder: Path, text: str, name: str = "shop.yaml") -> tuple[AppMesh, manifest.Report]:
    (folder / name).write_text(text)
    return manifest.read([folder / name])


def test_names_are_those_that_aws_had(tmp_path: Path) -> None:
    mesh, report = read(tmp_path, WHOLE)
    assert (mesh.name, mesh.node("cart_prod").name, mesh.service("cart.prod").name) == (
        "shop",
        "cart_prod",
        "cart.prod",
    )
    (route,) = mesh.router("cart_prod").routes
    assert route.spec.action.weighted_targets[0].virtual_node == "cart_prod"
    assert report.carried == {"Mesh": 1, "VirtualNode": 1, "VirtualRouter": 1, "VirtualService": 1}
    named = WHOLE.replace("metadata: {name: cart, namespace: prod}\nspec:\n  listeners:\n", "METADATA", 1).replace(
        "METADATA", "metadata: {name: cart, namespace: prod}\nspec:\n  awsName: cart-eu\n  listeners:\n"
    )
    assert (
        read(tmp_path, named)[0].router("cart_prod").routes[0].spec.action.weighted_targets[0].virtual_node == "cart-eu"
    )


def test_durations_of_all_forms_are_read(tmp_path: Path) -> None:
    (listener,) = read(tmp_path, WHOLE)[0].node("cart_prod").listeners
    assert listener.timeout is not None
    assert listener.timeout.grpc is not None
    assert listener.timeout.grpc.per_request is not None
    assert listener.timeout.grpc.per_request.total_seconds() == 5
    assert listener.timeout.grpc.idle is not None
    assert listener.timeout.grpc.idle.total_seconds() == 0.25


@pytest.mark.parametrize("sample", sorted(path.name for path in SAMPLES.iterdir() if path.suffix != ".txt"))
def test_every_sample_comes_to_a_mesh_yaml_that_reads_the_same(sample: str, tmp_path: Path) -> None:
    mesh, report = manifest.read([SAMPLES / sample])
    (tmp_path / "mesh.yaml").write_text(mesh_yaml.text(mesh))
    assert mesh_yaml.is_app_mesh(tmp_path / "mesh.yaml")
    assert mesh_yaml.load(tmp_path / "mesh.yaml") == mesh
    assert report.carried["VirtualNode"] == len(mesh.virtual_nodes)


def test_a_folder_is_read_whole_and_what_is_not_app_meshs_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name, text in (("m.yaml", MESH), ("a/n.yml", NODE), ("r.yaml", ROUTER), ("s.yaml", SERVICE)):
        (tmp_path / name).write_text(text)
    (tmp_path / "other.yaml").write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: c2VjcmV0}\n---\n---\njust text\n"
    )
    mesh, report = manifest.read([tmp_path])
    assert mesh.service("cart.prod")
    told = "\n".join(report.lines())
    assert "Secret: not App Mesh's" in told
    assert "c2VjcmV0" not in told


def test_backend_groups_are_the_backends_that_they_stand_for(tmp_path: Path) -> None:
    groups = """\
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: BackendGroup
metadata: {name: shops, namespace: prod}
spec: {virtualservices: [{name: cart}]}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualNode
metadata: {name: front, namespace: prod}
spec: {backendGroups: [{name: GROUP}]}
"""
    for group in ("shops", "'*'"):
        mesh, report = read(tmp_path, WHOLE + groups.replace("GROUP", group))
        assert [one.virtual_service for one in mesh.node("front_prod").backends] == ["cart.prod"]
        assert "front: its backend groups" in "\n".join(report.changed)
    with pytest.raises(DocumentError, match="there is no BackendGroup nothing"):
        read(tmp_path, WHOLE + groups.replace("GROUP", "nothing"))


def test_json_with_tabs_is_read_as_well(tmp_path: Path) -> None:
    described = json.loads((SAMPLES / "cloud-map.json").read_text())
    assert read(tmp_path, json.dumps(described, indent="\t"), "d.json")[0].node("palette")


def test_one_of_several_meshes_is_chosen(tmp_path: Path) -> None:
    described: list[dict[str, Any]] = json.loads((SAMPLES / "cloud-map.json").read_text())
    other = [{"mesh": {"meshName": "other", "spec": {}}}]
    (tmp_path / "d.json").write_text(json.dumps(described + other))
    with pytest.raises(DocumentError, match="there are several meshes \\(other, paint\\): choose one with --mesh"):
        manifest.read([tmp_path / "d.json"])
    assert len(manifest.read([tmp_path / "d.json"], mesh="paint")[0].virtual_nodes) == 2
    assert not manifest.read([tmp_path / "d.json"], mesh="other")[0].virtual_nodes
    with pytest.raises(DocumentError, match="there is no mesh third: other, paint"):
        manifest.read([tmp_path / "d.json"], mesh="third")


def changed(before: str, after: str) -> str:
    assert before in WHOLE, before
    return WHOLE.replace(before, after, 1)


GATEWAY_ROUTE = """\
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: GatewayRoute
metadata: {name: open, namespace: prod}
spec:
  grpcRoute:
    match: {serviceName: shop.Cart}
    action: {target: {virtualService: {virtualServiceRef: {name: cart}}}}
"""
BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
)
BROKEN = {
    "another version": (changed("v1beta2", "v1beta1"), r"shop.yaml:\d+:\d+: Mesh: .*v1beta1 can't be read: convert"),
    "another kind": (changed("kind: VirtualNode", "kind: VirtualNod"), "VirtualNod is not a kind of"),
    "no name": (changed("metadata: {name: shop}", "metadata: {}"), "metadata.name is missing"),
    "no metadata": (changed("metadata: {name: shop}\n", ""), "metadata.name is missing"),
    "a spec that is text": (
        changed("spec: {namespaceSelector: {matchLabels: {mesh: shop}}}", "spec: x"),
        "not a mapping",
    ),
    "no mesh": (NODE, "there is no Mesh among"),
    "nothing of App Mesh": ("kind: Pod\napiVersion: v1\n", "there is no Mesh among"),
    "weights of 0": (changed("weight: 100", "weight: 0"), "weights of a route add up to 1..100"),
    "a weight of 101": (
        changed("weight: 100", "weight: 101"),
        r"shop.yaml:24:\d+: VirtualRouter cart: .*less than or equal",
    ),
    "a weight that is text": (changed("weight: 100", "weight: '100'"), "valid integer"),
    "a port of 0": (changed("port: 8080, protocol: grpc}\n    t", "port: 0, protocol: grpc}\n    t"), "greater than"),
    "an unknown protocol": (changed("protocol: grpc}\n    t", "protocol: grcp}\n    t"), "did you mean grpc"),
    "a timeout of another protocol": (changed("timeout: {grpc:", "timeout: {http:"), "timeout is of another protocol"),
    "two timeouts": (changed("timeout: {grpc:", "timeout: {tcp: {}, grpc:"), "exactly one of these"),
    "an unknown unit": (changed("{unit: s, value: 5}", "{unit: min, value: 5}"), "a duration is a number and"),
    "a duration below zero": (changed("value: 5}", "value: -5}"), "a duration is a number and"),
    "no service discovery": (
        changed("  serviceDiscovery: {dns: {hostname: cart.prod}}\n", ""),
        "serviceDiscovery is missing",
    ),
    "no listener behind a route": (
        changed(
            "  listeners:\n  - portMapping: {port: 8080, protocol: grpc}\n    timeout: {grpc: {perRequest: {unit: s, "
            "value: 5}, idle: {unit: ms, value: 250}}}\n",
            "",
        ),
        None,
    ),
    "a target that is nowhere": (
        changed("virtualNodeRef: {name: cart}", "virtualNodeRef: {name: crat}"),
        "no virtual node crat_prod: did you mean cart_prod",
    ),
    "a router that is nowhere": (
        changed("virtualRouterRef: {name: cart}", "virtualRouterRef: {name: card}"),
        "no virtual router card_prod: did you mean cart_prod",
    ),
    "a node in another namespace": (
        changed("virtualNodeRef: {name: cart}", "virtualNodeRef: {name: cart, namespace: dev}"),
        "no virtual node cart_dev",
    ),
    "two nodes of one name": (WHOLE + NODE, "more than one virtual node is called cart_prod"),
    "a method without its service": (changed("serviceName: shop.Cart", "methodName: Add"), "serviceName is missing"),
    "no target": (changed("[{virtualNodeRef: {name: cart}, weight: 100}]", "[]"), "at least 1 item"),
    "no route kind": (changed("grpcRoute:", "grpcRout:"), "exactly one of these stands here: grpcRoute"),
    "a gateway route without a gateway": (WHOLE + GATEWAY_ROUTE, "which gateway it belongs to can't be told: none"),
    "tabs": (changed("  listeners:\n  - port", "\tlisteners:\n  - port"), "a tab can't indent"),
    "not YAML": (changed("spec: {namespaceSelector", "spec: {{namespaceSelector"), r"shop.yaml:\d+:\d+"),
    "a key twice": (changed("kind: Mesh", "kind: Mesh\nkind: Mesh"), "kind is there twice: first in line 2"),
    "a key that is not a word": (changed("{matchLabels: {mesh: shop}}", "{1: x}"), "a key is a word"),
    "a bomb of aliases": (WHOLE + "---\n" + BOMB, "with its aliases it has more than"),
    "a cycle": (WHOLE + "---\na: &a [*a]\n", "an alias holds itself"),
    "a tag": (changed("name: shop", "name: !!python/object:os.system x"), "is not used here"),
    "too large": (WHOLE + "# " + "x" * 1_100_000, "larger than 1024 KiB"),
    "too deep": (WHOLE + "---\n" + "[" * 200 + "]" * 200, "nested"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_wrong_is_told_with_its_place(kind: str, tmp_path: Path) -> None:
    text, told = BROKEN[kind]
    if told is None:
        mesh, _ = read(tmp_path, text)
        assert any("has no listener" in fault for fault in mesh_yaml.faults(mesh))
        return
    with pytest.raises(DocumentError, match=told) as caught:
        read(tmp_path, text)
    assert all("Traceback" not in line for line in str(caught.value).splitlines())


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = WHOLE.replace("weight: 100", "weight: 101").replace("protocol: grpc}\n    t", "protocol: grcp}\n    t")
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, text)
    assert len(str(caught.value).splitlines()) >= 2


def test_a_mark_at_the_beginning_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(WHOLE, encoding="utf-8-sig")
    assert manifest.read([tmp_path / "m.yaml"])[0].node("cart_prod")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.yaml", b"\xff\xfe", "not text in UTF-8"),
        ("x.json", b'{"a":\t', "not JSON"),
        ("x.json", b'{"mesh":', r"x.json:1:\d+"),
    ],
)
def test_what_is_not_text_is_refused(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DocumentError, match=told):
        manifest.read([tmp_path / name])


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="No such file"):
        manifest.read([tmp_path / "nothing.yaml"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DocumentError, match="there is no file with"):
        manifest.read([tmp_path / "empty"])


TCP = """\
authorization: none
name: shop
virtualNodes:
- {name: front, backends: [{virtualService: a}, {virtualService: b}]}
- {name: store, listeners: [{portMapping: {port: 5432, protocol: tcp}}], serviceDiscovery: {dns: {hostname: s}}}
virtualRouters:
- name: r
  listeners: [{portMapping: {port: 5432, protocol: tcp}}]
  routes: [{name: all, tcpRoute: {action: {weightedTargets: [{virtualNode: store, weight: 1}]}}}]
virtualServices:
- {name: a, provider: {virtualRouter: r}}
- {name: b, provider: {virtualNode: store}}
"""


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("", "", "its backends a and b are both at port 5432, and one is TCP"),
        ("tcpRoute: {action", "grpcRoute: {match: {}, action", "a router for TCP has a tcpRoute"),
        (
            "virtualNode: store, weight",
            "virtualNode: stor, weight",
            "there is no virtual node stor: did you mean store",
        ),
        ("listeners: [{portMapping: {port: 5432, protocol: tcp}}], serviceD", "serviceD", "store has no listener"),
        ("protocol: tcp}}]\n  routes", "protocol: http}}]\n  routes", "speaks tcp, and the router http"),
        ("weight: 1}]", "weight: 1, port: 1}]", "has no listener at 1: 5432"),
        ("authorization: none", "authorization: none\negresFilter: DROP_ALL", "did you mean egressFilter"),
        (
            "protocol: tcp}}], serviceD",
            "protocol: tcp}}, {portMapping: {port: 5432, protocol: tcp}}], serviceD",
            "same port",
        ),
    ],
)
def test_what_no_envoy_could_run_is_told(before: str, after: str, told: str, tmp_path: Path) -> None:
    assert before in TCP
    (tmp_path / "mesh.yaml").write_text(TCP.replace(before, after) if before else TCP)
    with pytest.raises(DocumentError, match=told):
        mesh_yaml.load(tmp_path / "mesh.yaml")
