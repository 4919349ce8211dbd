"""The same resources as requests of App Mesh's API, in the order in which they can be made.

References are names there, routes are resources of their own, and what is about Kubernetes falls away.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from mesh.contract import Contract
from mesh.model.mesh import Mesh
from mesh.render.appmesh.renderer import AppMeshRenderer
from mesh.render.renderer import Files

Request = tuple[str, dict[str, Any]]
"""The operation as the AWS CLI has it (`create-mesh`), and its parameters."""
_ORDER = ("Mesh", "VirtualNode", "VirtualRouter", "VirtualService", "VirtualGateway", "GatewayRoute")
_OF_KUBERNETES = frozenset({"awsName", "podSelector", "namespaceSelector", "gatewayRouteSelector", "routes"})
_NAMES = {"virtualNodeRef": "virtualNode", "virtualRouterRef": "virtualRouterName"}


@dataclass(frozen=True, slots=True)
class AppMeshApiRenderer:
    """`001-create-mesh.json` and so on: `aws appmesh create-mesh --cli-input-json file://001-create-mesh.json`."""

    namespace: str
    accept_loss: bool = False
    target: str = "app-mesh-api"

    def render(self, mesh: Mesh, contract: Contract) -> Files:
        """All files; with a list of what is lost where something is (`lost.json`).

        Raises:
            RenderError: mesh.yaml disagrees with the access rules, or the target can't hold it; with all that it can't.
        """
        files = AppMeshRenderer(self.namespace, self.accept_loss).render(mesh, contract)
        resources = [one for text in files.values() for one in yaml.safe_load_all(text) if one]
        head = [line.removeprefix("# ") for line in files["mesh.yaml"].splitlines() if line.startswith("#")]
        requests = {
            f"{number:03}-{operation}.json": json.dumps(parameters, indent=2) + "\n"
            for number, (operation, parameters) in enumerate(_requests(mesh.name, self.namespace, resources), 1)
        }
        return {"lost.json": json.dumps(head, indent=2) + "\n"} | requests


def _requests(mesh: str, namespace: str, resources: Sequence[Mapping[str, Any]]) -> Iterator[Request]:
    def named(kind: str, name: str) -> str:
        # As the controller names them; a virtual service by what callers call.
        return name if kind in ("Mesh", "VirtualService") else f"{name}_{namespace}"

    gateway = next(one["metadata"]["name"] for one in resources if one["kind"] == "VirtualGateway")
    for kind in _ORDER:
        for resource in (one for one in resources if one["kind"] == kind):
            name, spec = named(kind, resource["metadata"]["name"]), resource["spec"]
            own = _translated({key: value for key, value in spec.items() if key not in _OF_KUBERNETES}, named)
            parameters: dict[str, Any] = {"meshName": mesh}
            if kind == "GatewayRoute":
                parameters["virtualGatewayName"] = named("VirtualGateway", gateway)
            if kind != "Mesh":
                parameters[f"{kind[0].lower()}{kind[1:]}Name"] = name
            yield f"create-{_dashed(kind)}", parameters | {"spec": own}
            for route in spec.get("routes", ()):
                content = _translated({key: value for key, value in route.items() if key != "name"}, named)
                yield "create-route", parameters | {"routeName": route["name"], "spec": content}


def _translated(value: Any, named: Any) -> Any:
    if isinstance(value, list):
        return [_translated(item, named) for item in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, item in value.items():
        if key == "virtualServiceRef":
            found["virtualServiceName"] = item["name"]
        elif key in _NAMES:
            found[_NAMES[key]] = named(key.removesuffix("Ref"), item["name"])
        else:
            found[key] = _translated(item, named)
    return found


def _dashed(kind: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in kind).removeprefix("-")
