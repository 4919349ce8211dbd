"""App Mesh's resources, held to the CRDs of its controller with unknown fields refused."""

import json
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator
from jsonschema import Draft202012Validator

from mesh.contract import Contract
from mesh.model.agreement import RenderError
from mesh.model.mesh import Mesh, load_mesh
from mesh.render.appmesh.api import AppMeshApiRenderer
from mesh.render.appmesh.renderer import LOST, AppMeshRenderer
from tests.kit.crds import validator

CRDS = Path(__file__).parents[3] / "kit" / "appmesh_crds"
MESH, CONTRACT = load_mesh(), Contract.load()


def validators() -> dict[str, Draft202012Validator]:
    found = {}
    for file in CRDS.glob("*.yaml"):
        for crd in yaml.safe_load_all(file.read_text()):
            if crd:
                (version,) = crd["spec"]["versions"]
                found[crd["spec"]["names"]["kind"]] = validator(version["schema"]["openAPIV3Schema"])
    return found


VALIDATORS = validators()


def resources(mesh: Mesh = MESH) -> list[Any]:
    files = AppMeshRenderer("shop", accept_loss=True).render(mesh, CONTRACT)
    return [document for text in files.values() for document in yaml.safe_load_all(text) if document]


def test_every_resource_is_valid_and_has_no_field_that_the_crd_lacks() -> None:
    found = resources()
    for resource in found:
        faults = [f"{error.json_path}: {error.message}" for error in VALIDATORS[resource["kind"]].iter_errors(resource)]
        assert not faults, (resource["metadata"]["name"], faults)
    kinds = [resource["kind"] for resource in found]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "Mesh": 1, "VirtualNode": 5, "VirtualService": 5, "VirtualRouter": 5, "VirtualGateway": 1,
        "GatewayRoute": len(MESH.gateway_routes),
    }  # fmt: skip


def test_a_field_that_is_misspelt_would_be_found() -> None:
    node = next(resource for resource in resources() if resource["kind"] == "VirtualNode")
    node["spec"]["listeners"][0]["tls"]["modus"] = "STRICT"
    assert list(VALIDATORS["VirtualNode"].iter_errors(node))


def test_references_lead_somewhere() -> None:
    found = resources()
    names = {kind: {one["metadata"]["name"] for one in found if one["kind"] == kind} for kind in VALIDATORS}
    kinds = {
        "virtualServiceRef": "VirtualService",
        "virtualNodeRef": "VirtualNode",
        "virtualRouterRef": "VirtualRouter",
    }

    def references(value: Any) -> list[tuple[str, str]]:
        if isinstance(value, list):
            return [one for item in value for one in references(item)]
        if not isinstance(value, dict):
            return []
        own = [(kinds[key], item["name"]) for key, item in value.items() if key in kinds]
        return own + [one for item in value.values() for one in references(item)]

    for kind, name in references(found):
        assert name in names[kind]


def test_what_goes_between_nodes_is_the_same_as_in_envoy() -> None:
    user = next(one for one in resources() if (one["kind"], one["metadata"]["name"]) == ("VirtualNode", "user"))
    (listener,) = user["spec"]["listeners"]
    names = listener["tls"]["validation"]["subjectAlternativeNames"]["match"]["exact"]
    assert set(names) == {"spiffe://authmesh/auth", "spiffe://authmesh/resource", "spiffe://authmesh/edge"}
    router = next(one for one in resources() if (one["kind"], one["metadata"]["name"]) == ("VirtualRouter", "token"))
    issuer = next(route for route in router["spec"]["routes"] if route["name"] == "token-issuer")
    assert issuer["grpcRoute"]["retryPolicy"] == {
        "maxRetries": 2,
        "perRetryTimeout": {"unit": "s", "value": 3},
        "grpcRetryEvents": ["unavailable"],
        "httpRetryEvents": ["stream-error", "gateway-error"],
        "tcpRetryEvents": ["connection-error"],
    }


def test_nothing_is_left_out_in_silence() -> None:
    with pytest.raises(RenderError) as refused:
        AppMeshRenderer("shop").render(MESH, CONTRACT)
    assert all(line in str(refused.value) for line in LOST)
    assert "a threshold of 1" in str(refused.value)
    for text in AppMeshRenderer("shop", accept_loss=True).render(MESH, CONTRACT).values():
        assert all(f"# Without {line}." in text for line in LOST)


def test_what_is_out_of_bounds_is_refused_with_its_place() -> None:
    raw = MESH.model_dump(by_alias=True)
    raw["virtualNodes"][0]["listener"]["healthCheck"]["interval"] = "1s"
    with pytest.raises(RenderError, match=r"virtualNodes auth: healthCheck.interval: App Mesh takes 5s to 300s"):
        AppMeshRenderer("shop", accept_loss=True).render(Mesh.model_validate(raw), CONTRACT)


def test_every_request_is_valid_by_the_model_of_the_api() -> None:
    model = botocore.session.get_session().get_service_model("appmesh")
    files = AppMeshApiRenderer("shop", accept_loss=True).render(MESH, CONTRACT)
    assert all(line in files["lost.json"] for line in LOST)
    made = []
    for name, text in files.items():
        if name == "lost.json":
            continue
        operation = "".join(part.capitalize() for part in name.removesuffix(".json").split("-")[1:])
        shape: Any = model.operation_model(operation).input_shape
        report = ParamValidator().validate(json.loads(text), shape)
        assert not report.has_errors(), (name, report.generate_report())
        made.append(operation)
    assert made[0] == "CreateMesh"
    assert made.count("CreateRoute") == sum(len(router.routes) for router in MESH.virtual_routers)
    # What a request names was made before it; a route is made with its router.
    kinds = [operation for operation in made if operation != "CreateRoute"]
    assert sorted(kinds, key=ORDER.index) == kinds
    assert made.index("CreateRoute") == made.index("CreateVirtualRouter") + 1


ORDER = [
    "CreateMesh", "CreateVirtualNode", "CreateVirtualRouter", "CreateVirtualService",
    "CreateVirtualGateway", "CreateGatewayRoute",
]  # fmt: skip
