"""All that is rendered for Kubernetes, through a real API server: its own checks, and those of the CRDs, rules in CEL
among them. It goes all the way but for storing (dry run), refuses unknown fields, and warns of nothing."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.appmesh import manifest, resources
from mesh.contract import Contract
from mesh.model.mesh import load_mesh
from mesh.render.envoy import Address, TokenRules
from mesh.render.gateway_api import GatewayApiRenderer
from mesh.render.kubernetes import Images, KubernetesRenderer
from tests.conftest import held
from tests.kit.app_mesh import SAMPLES
from tests.kit.go import MissingError
from tests.kit.kubernetes_api import ApiServer, api_server, definitions, of_kind
from tests.kit.kustomize import deployable, installed, objects, without_driver

pytestmark = pytest.mark.kubernetes

TOKENS = TokenRules("https://auth.test", "authmesh", 60)
IMAGES = Images("registry.test/authmesh@sha256:1", "registry.test/envoy@sha256:2")
MESH, CONTRACT = load_mesh(), Contract.load()
APP_MESH = Path(__file__).parents[1] / "kit" / "appmesh_crds"
NOT_HAD = ("TargetGroupBinding", "TargetGroupPolicy")
"""AWS's own, whose definitions are in no module that can be had."""
NAMESPACES = ("authmesh", "paint")


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    try:
        async with held(api_server(tmp_path_factory.mktemp("kubernetes"))) as found:
            crds = [*await definitions(), *(yaml.safe_load(one.read_text()) for one in APP_MESH.glob("*.yaml"))]
            for crd in crds:
                assert (await found.create(crd, dry_run=False)).status_code == 201, crd["metadata"]["name"]
            for name in NAMESPACES:
                namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                assert (await found.create(namespace, dry_run=False)).status_code == 201
            yield found
    except MissingError as error:
        pytest.skip(str(error))


def documents(files: dict[str, str]) -> list[Any]:
    """Objects of Kubernetes in files; not what Kustomize or Envoy read."""
    found = [
        one
        for name, text in files.items()
        if name.endswith(".yaml") and not name.startswith("envoy/")
        for one in yaml.safe_load_all(text)
    ]
    return [one for one in found if one and "kustomize" not in one.get("apiVersion", "kustomize")]


async def assert_taken(server: ApiServer, found: list[Any]) -> None:
    faults = []
    for one in found:
        if one["kind"] in NOT_HAD:
            continue
        one["metadata"].setdefault("namespace", "authmesh")
        answer = await server.create(one, dry_run=True)
        name = f"{one['kind']} {one['metadata']['name']}"
        if one["kind"] == "Namespace":
            # It is there.
            assert answer.status_code == 409
        elif answer.status_code != 201:
            faults.append(f"{name}: {answer.json().get('message')}")
        elif warnings := answer.headers.get_list("warning"):
            faults.append(f"{name}: {warnings}")
    assert not faults, "\n".join(faults)


async def test_the_base_is_taken(server: ApiServer) -> None:
    renderer = KubernetesRenderer(TOKENS, "authmesh", IMAGES, 1, Address("otel.watch", 4318))
    found = documents(dict(renderer.render(MESH, CONTRACT)))
    assert len(of_kind(found, "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget")) == 18
    await assert_taken(server, found)


async def test_overlays_are_taken_as_kustomize_builds_them(server: ApiServer, tmp_path: Path) -> None:
    try:
        kustomize = await installed(tmp_path)
    except MissingError as error:
        pytest.skip(str(error))
    deploy = deployable(tmp_path)
    eks = deploy / "overlays" / "eks"
    for folder in (eks, eks / "migrations", without_driver(deploy)):
        found = await objects(kustomize, folder)
        assert of_kind(found, "Deployment", "Job")
        await assert_taken(server, found)


@pytest.mark.parametrize("flavor", ["istio", "envoy-gateway", "lattice"])
async def test_the_gateway_api_is_taken_with_the_rules_of_its_definitions(server: ApiServer, flavor: str) -> None:
    found = documents(dict(GatewayApiRenderer(TOKENS, "authmesh", flavor, accept_loss=True).render(MESH, CONTRACT)))
    assert of_kind(found, "Gateway")
    assert of_kind(found, "GRPCRoute")
    await assert_taken(server, found)


@pytest.mark.parametrize("sample", sorted(path.name for path in SAMPLES.iterdir() if path.suffix != ".txt"))
async def test_resources_of_app_mesh_are_taken(server: ApiServer, sample: str) -> None:
    mesh, _ = manifest.read([SAMPLES / sample])
    found = documents(dict(resources.render(mesh, "paint")))
    for one in of_kind(found, "Mesh"):
        one["metadata"]["namespace"] = None
    await assert_taken(server, found)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("spec", "replicass"), 1, "unknown field"),
        (("spec", "selector", "matchLabels"), {"app": "another"}, "does not match template"),
        (("spec", "template", "spec", "restartPolicy"), "Never", "Unsupported value"),
    ],
)
async def test_what_is_wrong_is_refused(server: ApiServer, path: tuple[str, ...], value: Any, told: str) -> None:
    """The server is no rubber stamp."""
    found = documents(dict(KubernetesRenderer(TOKENS, "authmesh", IMAGES).render(MESH, CONTRACT)))
    deployment = of_kind(found, "Deployment")[0]
    *outer, last = path
    place = deployment
    for key in outer:
        place = place[key]
    place[last] = value
    deployment["metadata"]["namespace"] = "authmesh"
    answer = await server.create(deployment, dry_run=True)
    assert answer.status_code in (400, 422)
    assert told in answer.json()["message"]
