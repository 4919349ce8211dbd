"""mesh.yaml of a mesh as App Mesh had it: marked by `authorization: none`, read, checked and written."""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from mesh.appmesh.model import AppMesh, Certificate, Listener, TcpRoute, Trust, VirtualNode, VirtualRouter
from mesh.appmesh.routing import service_ports
from mesh.model.document import DocumentError, StrictModel, read_model
from mesh.render.envoy.resource import to_yaml

_MARK = re.compile(r"^authorization: *[\"']?none[\"']? *(#.*)?$", re.MULTILINE)
_HEAD = """\
# A mesh as App Mesh had it, written by `authmesh mesh import`. Certificates and backends say who may call what in it:
# it has no access rules. `authmesh mesh check --file` checks it, `authmesh mesh render --file` writes its Envoys.
"""


def is_app_mesh(file: Path) -> bool:
    """Whether a mesh.yaml is one of this kind. What can't be read is not."""
    try:
        return bool(_MARK.search(file.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError):
        return False


def load(file: Path) -> AppMesh:
    """Reads and checks it.

    Raises:
        DocumentError: it is not such a mesh, or no Envoy could run it; with every fault.
    """
    mesh = read_model(file, AppMesh)
    if found := list(faults(mesh)):
        raise DocumentError("\n".join(f"{file}: {fault}" for fault in found))
    return mesh


def text(mesh: AppMesh) -> str:
    """As mesh.yaml."""
    return _HEAD + to_yaml(_plain(mesh))


def faults(mesh: AppMesh) -> Iterator[str]:
    """What no Envoy could run, though each part of it is as it should be."""
    for node in mesh.virtual_nodes:
        ports = [listener.port_mapping.port for listener in node.listeners]
        if len({*ports}) < len(ports):
            yield f"virtual node {node.name}: two listeners have the same port"
        yield from _of_backends(mesh, node)
    for service in mesh.virtual_services:
        provider = service.provider
        if provider and provider.virtual_node and not mesh.node(provider.virtual_node).listeners:
            yield f"virtual service {service.name}: virtual node {provider.virtual_node} has no listener"
    for router in mesh.virtual_routers:
        yield from _of_router(mesh, router)
    for path, found in _all(mesh, ""):
        if isinstance(found, Certificate | Trust) and found.acm is not None:
            yield f"{path}: only App Mesh's control plane brought certificates of ACM to Envoys: name a file, or SDS"


def _of_backends(mesh: AppMesh, node: VirtualNode) -> Iterator[str]:
    """TCP has no name by which services at one port could be told apart."""
    at: dict[int, str] = {}
    for backend in node.backends:
        for port, protocol in service_ports(mesh, backend.virtual_service):
            before = at.setdefault(port, backend.virtual_service)
            others = {spoken for found, spoken in service_ports(mesh, before) if found == port}
            if before != backend.virtual_service and "tcp" in {protocol, *others}:
                yield (
                    f"virtual node {node.name}: its backends {before} and {backend.virtual_service} are both at port "
                    f"{port}, and one is TCP: give them different ports"
                )


def _of_router(mesh: AppMesh, router: VirtualRouter) -> Iterator[str]:
    spoken = {one.port_mapping.protocol for one in router.listeners}
    for route in router.routes:
        named = f"virtual router {router.name}: route {route.name}"
        for target in route.spec.action.weighted_targets:
            listeners = mesh.node(target.virtual_node).listeners
            known = {one.port_mapping.port: one for one in listeners}
            if not listeners:
                yield f"{named}: virtual node {target.virtual_node} has no listener"
            elif target.port is not None and target.port not in known:
                ports = ", ".join(map(str, known))
                yield f"{named}: virtual node {target.virtual_node} has no listener at {target.port}: {ports}"
            elif target.port is None and len(listeners) > 1:
                ports = ", ".join(map(str, known))
                yield f"{named}: virtual node {target.virtual_node} has several listeners: name a port of {ports}"
            elif (protocol := _target(known, target.port).port_mapping.protocol) not in spoken:
                yield (
                    f"{named}: virtual node {target.virtual_node} speaks {protocol}, and the router "
                    f"{', '.join(sorted(spoken))}"
                )
        if isinstance(route.spec, TcpRoute) != (spoken == {"tcp"}):
            yield f"{named}: a router for TCP has a tcpRoute, and no other router has one"
        if isinstance(route.spec, TcpRoute) and len(router.routes) > 1:
            yield f"{named}: a router for TCP has one route"
    seen: dict[str, str] = {}
    for route in router.routes:
        key = repr((route.priority, route.spec.match))
        if key in seen:
            yield f"virtual router {router.name}: route {route.name} takes the same calls as {seen[key]}: take one out"
        seen.setdefault(key, route.name)


def _target(known: Mapping[int, Listener], port: int | None) -> Listener:
    return known[port] if port is not None else next(iter(known.values()))


def _all(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, value
    if isinstance(value, StrictModel):
        for name, field in type(value).model_fields.items():
            yield from _all(getattr(value, name), f"{path}.{field.alias or name}".lstrip("."))
    elif isinstance(value, tuple):
        for place, one in enumerate(value):
            yield from _all(one, f"{path}[{place}]")


def _plain(value: Any) -> Any:
    """Without what has its default."""
    if isinstance(value, timedelta):
        milliseconds = round(value.total_seconds() * 1000)
        return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"
    if isinstance(value, StrictModel):
        return {
            field.alias or name: _plain(found)
            for name, field in type(value).model_fields.items()
            if (found := getattr(value, name)) != field.get_default()
        }
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
