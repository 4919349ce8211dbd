"""A mesh as resources of App Mesh's controller for Kubernetes: what `manifest` reads."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import yaml
from pydantic import BaseModel

from mesh.appmesh.manifest import API_VERSION
from mesh.appmesh.model import AppMesh, Backend, GatewayTarget, HealthCheck, Provider, WeightedTarget
from mesh.render.renderer import Files

_KINDS = {
    "VirtualNode": "virtual_nodes",
    "VirtualRouter": "virtual_routers",
    "VirtualService": "virtual_services",
    "VirtualGateway": "virtual_gateways",
    "GatewayRoute": "gateway_routes",
}


def render(mesh: AppMesh, namespace: str) -> Files:
    """All files, one a kind. Names stay as `awsName`; objects of Kubernetes have the nearest that they may have."""
    items: dict[str, Sequence[Any]] = {kind: getattr(mesh, file) for kind, file in _KINDS.items()}
    writer = _Writer(namespace, {kind: _object_names(kind, found, namespace) for kind, found in items.items()})
    files = {"mesh.yaml": [_mesh(mesh)]} | {
        f"{_KINDS[kind].replace('_', '-')}.yaml": [writer.resource(kind, item) for item in found]
        for kind, found in items.items()
        if found
    }
    return {
        name: "".join(f"---\n{yaml.safe_dump(one, sort_keys=False)}" for one in resources)
        for name, resources in files.items()
    }


def _mesh(mesh: AppMesh) -> dict[str, Any]:
    name = _object_name(mesh.name)
    spec: dict[str, Any] = {
        "awsName": mesh.name,
        "egressFilter": {"type": mesh.egress_filter},
        "namespaceSelector": {"matchLabels": {"mesh": name}},
    }
    # The resource knows two of the four preferences of the API.
    if mesh.ip_preference in ("IPv4_ONLY", "IPv6_ONLY"):
        spec["meshServiceDiscovery"] = {"ipPreference": mesh.ip_preference}
    return {"apiVersion": API_VERSION, "kind": "Mesh", "metadata": {"name": name}, "spec": spec}


class _Writer:
    """Writes resources that refer to each other by the names of Kubernetes."""

    def __init__(self, namespace: str, names: Mapping[str, Mapping[str, str]]) -> None:
        self._namespace = namespace
        self._names = names

    def resource(self, kind: str, item: Any) -> dict[str, Any]:
        """One resource."""
        name = self._names[kind][item.name]
        spec = {"awsName": item.name} | {key: value for key, value in self._fields(item) if key != "name"}
        metadata: dict[str, Any] = {"name": name, "namespace": self._namespace}
        if kind in ("VirtualNode", "VirtualGateway"):
            spec["podSelector"] = {"matchLabels": {"app": name}}
        if kind == "VirtualGateway":
            spec["namespaceSelector"] = {"matchLabels": {"gateway": name}}
            spec["gatewayRouteSelector"] = {"matchLabels": {"gateway": name}}
        if kind == "GatewayRoute":
            # Which gateway it belongs to is a matter of labels.
            metadata["labels"] = {"gateway": self._names["VirtualGateway"][spec.pop("virtualGateway")]}
        return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}

    def _fields(self, item: BaseModel) -> Iterator[tuple[str, Any]]:
        for name, field in type(item).model_fields.items():
            value = getattr(item, name)
            if value is None or value == ():
                continue
            key = field.alias or name
            if isinstance(item, HealthCheck) and isinstance(value, timedelta):
                yield f"{key}Millis", _millis(value)
            elif isinstance(item, WeightedTarget) and isinstance(value, str):
                yield from self._reference("virtualNode", value).items()
            elif isinstance(item, Provider):
                yield key, self._reference(key, value)
            else:
                yield key, self._value(value)

    def _value(self, value: Any) -> Any:
        if isinstance(value, timedelta):
            milliseconds = _millis(value)
            whole = milliseconds % 1000 == 0
            return {"unit": "s" if whole else "ms", "value": milliseconds // 1000 if whole else milliseconds}
        if isinstance(value, Backend):
            policy = {"clientPolicy": self._value(value.client_policy)} if value.client_policy is not None else {}
            return {"virtualService": self._reference("virtualService", value.virtual_service) | policy}
        if isinstance(value, GatewayTarget):
            port = {"port": value.port} if value.port is not None else {}
            return {"virtualService": self._reference("virtualService", value.virtual_service)} | port
        if isinstance(value, BaseModel):
            return dict(self._fields(value))
        return [self._value(one) for one in value] if isinstance(value, tuple) else value

    def _reference(self, key: str, name: str) -> dict[str, Any]:
        return {f"{key}Ref": {"name": self._names[f"{key[0].upper()}{key[1:]}"][name]}}


def _object_names(kind: str, items: Sequence[Any], namespace: str) -> dict[str, str]:
    """The names of the objects, each once."""
    found: dict[str, str] = {}
    for item in items:
        short = _object_name(item.name.removesuffix(f"{'.' if kind == 'VirtualService' else '_'}{namespace}"))
        name, number = short, 2
        while name in found.values():
            name, number = f"{short}-{number}", number + 1
        found[item.name] = name
    return found


def _object_name(name: str) -> str:
    """The nearest name that an object of Kubernetes may have (RFC 1123)."""
    return re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip("-.") or "x"


def _millis(value: timedelta) -> int:
    return round(value.total_seconds() * 1000)
