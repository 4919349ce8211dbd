"""Kustomize itself puts base, component and overlays together, and Kubernetes knows every field of what comes out."""

import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.kit.go import MissingError
from tests.kit.kustomize import DEPLOY, NODES, deployable, installed, objects, without_driver

pytestmark = pytest.mark.slow

VERSION = "1.34"
OF_KUBERNETES = frozenset(("v1", "apps/v1", "autoscaling/v2", "batch/v1", "networking.k8s.io/v1", "policy/v1"))


@pytest.fixture(scope="module")
async def kustomize(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return await installed(tmp_path_factory.mktemp("kustomize"))
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    return deployable(tmp_path)


async def built(kustomize: Path, folder: Path) -> list[Any]:
    found = await objects(kustomize, folder)
    for one in found:
        if one["apiVersion"] in OF_KUBERNETES:
            kubernetes_validate.validate(one, VERSION, strict=True)
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "authmesh"
    return found


async def test_the_overlay_of_eks_gives_each_pod_its_settings(kustomize: Path, deploy: Path) -> None:
    found = await built(kustomize, deploy / "overlays" / "eks")
    maps = {one["metadata"]["name"]: one["data"] for one in found if one["kind"] == "ConfigMap"}
    pods = {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in found if one["kind"] == "Deployment"}
    assert pods.keys() == {*NODES, "edge"}
    for node in NODES:
        (process,) = pods[node]["containers"]
        read = [maps[source["configMapRef"]["name"]] for source in process["envFrom"]]
        environment = {name: value for one in read for name, value in one.items()}
        assert environment.keys() >= {"DATABASE_URL", "DATABASE_SECRET", "REDIS_URL", "REDIS_SECRET", "EVENT_BUS"}
    for node, pod in pods.items():
        (config,) = (volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume)
        assert config == f"{node}-envoy", "a running Envoy takes up its files: they keep their name"
        assert "bootstrap.yaml" in maps[config]
    assert {one["spec"]["targetGroupName"] for one in found if one["kind"] == "TargetGroupBinding"} == {
        "authmesh-grpc",
        "authmesh-http",
    }


async def test_other_settings_start_pods_anew(kustomize: Path, deploy: Path) -> None:
    def names(found: list[Any]) -> dict[str, Any]:
        return {
            one["metadata"]["name"]: one["spec"]["template"]["spec"]["containers"][0].get("envFrom")
            for one in found
            if one["kind"] == "Deployment"
        }

    overlay = deploy / "overlays" / "eks"
    before = names(await built(kustomize, overlay))
    with (overlay / "token.env").open("a") as file:
        file.write("LOG_LEVEL=debug\n")
    after = names(await built(kustomize, overlay))
    assert {node for node in before if before[node] != after[node]} == {"token"}


async def test_migrations_are_a_step_of_their_own(kustomize: Path, deploy: Path) -> None:
    found = await built(kustomize, deploy / "overlays" / "eks" / "migrations")
    assert {one["kind"] for one in found} == {"ConfigMap", "Job", "NetworkPolicy", "ServiceAccount"}
    (job,) = (one for one in found if one["kind"] == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (source,) = container["envFrom"]
    (given,) = (one["data"] for one in found if one["kind"] == "ConfigMap")
    assert source["configMapRef"]["name"].startswith("migrations-settings-")
    assert given.keys() >= {"ADMIN_URL", "ADMIN_SECRET", "TOKEN_OWNER_SECRET", "TOKEN_DATABASE_SECRET"}


async def test_identities_come_from_secrets_where_there_is_no_driver(kustomize: Path, deploy: Path) -> None:
    found = await built(kustomize, without_driver(deploy))
    for one in found:
        if one["kind"] == "Deployment":
            volumes = {volume["name"]: volume for volume in one["spec"]["template"]["spec"]["volumes"]}
            secret = {"secretName": f"{one['metadata']['name']}-identity", "defaultMode": 0o440}
            assert volumes["identity"] == {"name": "identity", "secret": secret}


async def test_without_its_settings_the_overlay_says_which_file_is_missing(kustomize: Path, tmp_path: Path) -> None:
    copy = tmp_path / "kubernetes"
    shutil.copytree(DEPLOY, copy)
    with pytest.raises(AssertionError, match=r"settings\.env"):
        await built(kustomize, copy / "overlays" / "eks")
