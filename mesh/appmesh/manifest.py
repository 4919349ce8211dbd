"""Reads App Mesh's manifests: resources of its controller for Kubernetes, and what its API described.

Of what was there nothing goes in silence: a report says what was carried, what was changed and why, and what is left
out.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mesh.appmesh import model
from mesh.model.document import Document, DocumentError, Path_, faults, read_documents, shown

FILE_LIMIT = 1000
"""Files of one import."""
API_GROUP = "appmesh.k8s.aws/"
API_VERSION = f"{API_GROUP}v1beta2"
CERTIFICATES = "/etc/authmesh/certificates"
"""Where certificates are expected that came from AWS Certificate Manager."""

_SUFFIXES = (".yaml", ".yml", ".json")
_KINDS: Mapping[str, type[BaseModel]] = {
    "VirtualNode": model.VirtualNode,
    "VirtualRouter": model.VirtualRouter,
    "VirtualService": model.VirtualService,
    "VirtualGateway": model.VirtualGateway,
    "GatewayRoute": model.GatewayRoute,
}
_READ = (*_KINDS, "Mesh", "Route", "BackendGroup")
_OF_KUBERNETES = {
    "podSelector": "which pods it stands for: put what is rendered beside them",
    "namespaceSelector": "which namespaces belong to it",
    "gatewayRouteSelector": "which routes belong to it: those that were found are carried",
    "meshRef": "which mesh it belongs to",
    "meshOwner": "whose account the mesh is in",
}
_REFERENCES = {
    "virtualNodeRef": "virtualNode",
    "virtualNodeName": "virtualNode",
    "virtualNodeARN": "virtualNode",
    "virtualRouterRef": "virtualRouter",
    "virtualRouterName": "virtualRouter",
    "virtualRouterARN": "virtualRouter",
    "virtualServiceRef": "virtualService",
    "virtualServiceName": "virtualService",
    "virtualServiceARN": "virtualService",
    "virtualGatewayRef": "virtualGateway",
}
_SPELLINGS = {
    "intervalMillis": "interval",
    "timeoutMillis": "timeout",
    "certificateArn": "certificateARN",
    "certificateAuthorityArns": "certificateAuthorityARNs",
}


@dataclass(slots=True)
class Report:
    """What became of the manifests."""

    carried: Counter[str] = field(default_factory=Counter)
    """By kind."""
    changed: list[str] = field(default_factory=list)
    """What is another way here, and why."""
    left_out: list[str] = field(default_factory=list)
    """What has no place here, and why."""

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"carried: {', '.join(f'{count} {kind}' for kind, count in sorted(self.carried.items()))}"
        for title, found in (("changed", self.changed), ("left out", self.left_out)):
            yield f"{title}:" if found else f"{title}: nothing"
            yield from (f"  {one}" for one in dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class _Resource:
    """One resource, wherever it came from."""

    file: Path
    document: Document
    path: Path_
    """Of it within the document."""
    kind: str
    namespace: str
    name: str
    spec: Mapping[str, Any]
    labels: Mapping[str, Any]
    parent: str | None = None
    """The router of a route, or the gateway of a gateway route, as the API has them."""
    mesh: str | None = None
    of_api: bool = False
    """Names are what AWS calls the resource; in Kubernetes they are made of it."""

    @property
    def shown(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def aws_name(self) -> str:
        """What AWS calls it: its own `awsName`, or what App Mesh's controller made of name and namespace."""
        if self.of_api or self.kind == "Mesh":
            return str(self.spec.get("awsName") or self.name)
        joined = f"{self.name}{'.' if self.kind == 'VirtualService' else '_'}{self.namespace}"
        return str(self.spec.get("awsName") or joined)

    def fault(self, path: Path_, text: str) -> str:
        where = self.document.place((*self.path, *path))
        return f"{self.file}:{where}: {self.shown}: {f'{shown(path)}: ' if path else ''}{text}"


def read(paths: Sequence[Path], *, namespace: str = "default", mesh: str | None = None) -> tuple[model.AppMesh, Report]:
    """Reads manifests.

    Args:
        paths: Files, and directories of them.
        namespace: Of resources that name none.
        mesh: Which mesh it is, where there are several.

    Raises:
        DocumentError: a file can't be read, or what is in it is not a mesh; with all faults that were found.
    """
    report = Report()
    found = [one for file in _files(paths) for one in _resources(file, namespace, report)]
    named = _mesh(found, mesh)
    chosen = [one for one in found if one.mesh in (None, named.name) and one.kind != "Mesh"]
    return _Reader(named, chosen, report).mesh(), report


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(one for one in path.rglob("*") if one.suffix in _SUFFIXES and one.is_file())
        if not inside:
            raise DocumentError(f"{path}: there is no file with {', '.join(_SUFFIXES)} in it")
        found += inside
    if len(found) > FILE_LIMIT:
        raise DocumentError(f"{len(found)} files: no more than {FILE_LIMIT} at a time")
    return found


def _resources(file: Path, namespace: str, report: Report) -> Iterator[_Resource]:
    others: Counter[str] = Counter()
    wrong: list[str] = []
    for document in _documents(file):
        for path, value in _items(document.value, ()):
            one = _resource(file, document, path, value, namespace)
            if one is None:
                kind = value.get("kind") if isinstance(value, Mapping) else None
                others[str(kind or "a document of another kind")] += 1
                continue
            wrong += [f"{file}:{mark.line + 1}:{mark.column + 1}: {text}" for mark, text in document.faults]
            if isinstance(one, str):
                wrong.append(one)
            else:
                yield one
    if wrong:
        raise DocumentError("\n".join(dict.fromkeys(wrong)))
    for kind, count in others.items():
        report.left_out.append(f"{file}: {kind}{f' ({count})' if count > 1 else ''}: not App Mesh's")


def _documents(file: Path) -> list[Document]:
    if file.suffix != ".json":
        return read_documents(file)
    # JSON may be indented by tabs, which YAML does not take.
    return read_documents(file) if "\t" not in _start(file) else [Document(_json(file))]


def _start(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")[:65_536]
    except OSError as error:
        raise DocumentError(f"{file}: {error.strerror}") from error


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{file}: it is not JSON: {error}") from None


def _items(value: Any, path: Path_) -> Iterator[tuple[Path_, Any]]:
    """The document, or what a List holds."""
    if (
        isinstance(value, Mapping)
        and str(value.get("kind", "")).endswith("List")
        and isinstance(value.get("items"), list)
    ):
        for place, one in enumerate(value["items"]):
            yield from _items(one, (*path, "items", place))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from _items(one, (*path, place))
    else:
        yield path, value


def _resource(file: Path, document: Document, path: Path_, value: Any, namespace: str) -> "_Resource | str | None":
    """The resource in a value; what is wrong with it; or None, where it is not App Mesh's."""
    if not isinstance(value, Mapping):
        return None
    where = f"{file}:{document.place(path)}"
    version, kind = str(value.get("apiVersion", "")), str(value.get("kind", ""))
    if not version:
        return _described(file, document, path, value, namespace)
    if not version.startswith(API_GROUP):
        return None
    if version != API_VERSION:
        return f"{where}: {kind}: {version} can't be read: convert it to {API_VERSION}"
    if kind not in _READ:
        return f"{where}: {kind} is not a kind of {API_VERSION}: choose from {', '.join(_READ)}"
    metadata, spec = value.get("metadata"), value.get("spec", {})
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        return f"{where}: {kind}: metadata.name is missing"
    if not isinstance(spec, Mapping):
        return f"{where}: {kind} {metadata['name']}: spec is not a mapping"
    labels = metadata.get("labels")
    return _Resource(
        file,
        document,
        (*path, "spec"),
        kind,
        str(metadata.get("namespace") or namespace),
        metadata["name"],
        spec,
        labels if isinstance(labels, Mapping) else {},
    )


def _described(
    file: Path, document: Document, path: Path_, value: Mapping[str, Any], namespace: str
) -> "_Resource | str | None":
    """What `aws appmesh describe-...` answered, or `create-...` was asked."""
    for kind in (*_KINDS, "Route", "Mesh"):
        key = f"{kind[0].lower()}{kind[1:]}"
        inner = value.get(key) if isinstance(value.get(key), Mapping) else value
        if not isinstance(inner, Mapping) or not isinstance(inner.get("spec", {}), Mapping):
            continue
        name = inner.get(f"{key}Name")
        # A route names its router as well: what has more names is the smaller thing.
        if not isinstance(name, str) or (inner is value and _more_names(kind, inner)):
            continue
        place = (*path, key, "spec") if inner is not value else (*path, "spec")
        parent = {"Route": "virtualRouterName", "GatewayRoute": "virtualGatewayName"}.get(kind)
        return _Resource(
            file,
            document,
            place,
            kind,
            namespace,
            name,
            inner.get("spec", {}),
            {},
            parent=str(inner.get(parent)) if parent else None,
            mesh=str(inner["meshName"]) if "meshName" in inner else None,
            of_api=True,
        )
    return None


def _more_names(kind: str, value: Mapping[str, Any]) -> bool:
    smaller = {"VirtualRouter": "routeName", "VirtualGateway": "gatewayRouteName"}
    others = ("virtualNodeName", "virtualRouterName", "virtualServiceName", "virtualGatewayName")
    return smaller.get(kind, "") in value or (kind == "Mesh" and any(name in value for name in others))


def _mesh(found: Sequence[_Resource], wanted: str | None) -> _Resource:
    meshes = {one.aws_name: one for one in found if one.kind == "Mesh"}
    for one in found:
        if one.mesh is not None and one.mesh not in meshes:
            # Described without its mesh: all that has to be known of that is its name.
            meshes[one.mesh] = _Resource(one.file, one.document, (), "Mesh", "", one.mesh, {}, {}, of_api=True)
    if wanted is not None and wanted not in meshes and meshes:
        raise DocumentError(f"there is no mesh {wanted}: {', '.join(sorted(meshes))}")
    if wanted is None and len(meshes) > 1:
        raise DocumentError(f"there are several meshes ({', '.join(sorted(meshes))}): choose one with --mesh")
    if not meshes:
        raise DocumentError("there is no Mesh among the resources of App Mesh: add its manifest")
    return meshes[wanted or next(iter(meshes))]


class _Reader:
    """Makes a mesh of its resources."""

    def __init__(self, mesh: _Resource, resources: Sequence[_Resource], report: Report) -> None:
        self._mesh = mesh
        self._resources = resources
        self._report = report
        self._names = {(one.kind, one.namespace, one.name): one.aws_name for one in resources}
        self._faults: list[str] = []

    def mesh(self) -> model.AppMesh:
        """The whole.

        Raises:
            DocumentError: with all faults.
        """
        made = {kind: tuple(one for one in self._of(kind) if one is not None) for kind in _KINDS}
        if self._faults:
            raise DocumentError("\n".join(dict.fromkeys(self._faults)))
        preference = self._mesh.spec.get("meshServiceDiscovery") or self._mesh.spec.get("serviceDiscovery") or {}
        self._leave_out(self._mesh, self._mesh.spec, ())
        self._report.carried["Mesh"] += 1
        try:
            return model.AppMesh.model_validate(
                {
                    "authorization": "none",
                    "name": self._mesh.aws_name,
                    "egressFilter": self._mesh.spec.get("egressFilter", {}).get("type", "DROP_ALL"),
                    "ipPreference": preference.get("ipPreference"),
                    **{f"{kind[0].lower()}{kind[1:]}s": found for kind, found in made.items()},
                }
            )
        except ValidationError as error:
            told = [self._mesh.fault((), text) for _, text in faults(error, model.AppMesh)]
            raise DocumentError("\n".join(one.replace("; ", "\n  ") for one in told)) from None

    def _of(self, kind: str) -> Iterator[BaseModel | None]:
        for one in self._resources:
            if one.kind == kind:
                yield self._made(one, self._raw(one))

    def _raw(self, one: _Resource) -> dict[str, Any]:
        self._leave_out(one, one.spec, ())
        own = {
            key: value for key, value in one.spec.items() if key not in (*_OF_KUBERNETES, "awsName", "backendGroups")
        }
        raw: dict[str, Any] = self._translated(own, one)
        raw["name"] = one.aws_name
        if one.kind == "VirtualNode" and "backendGroups" in one.spec:
            raw["backends"] = [*raw.get("backends", ()), *self._grouped(one)]
        if one.kind == "VirtualRouter":
            raw["routes"] = [*raw.get("routes", ()), *self._routes(one)]
        if one.kind == "GatewayRoute":
            raw["virtualGateway"] = raw.get("virtualGateway") or one.parent or self._gateway_of(one)
        return raw

    def _made(self, one: _Resource, raw: dict[str, Any]) -> BaseModel | None:
        """The model; what no field of App Mesh is, is left out, as Kubernetes' API server left it out."""
        kind = _KINDS[one.kind]
        while True:
            try:
                made = kind.model_validate(_tuples(raw))
            except ValidationError as error:
                extra = [item["loc"] for item in error.errors() if item["type"] == "extra_forbidden"]
                for loc in extra:
                    _take_out(raw, loc)
                    self._report.left_out.append(f"{one.shown}: {shown(loc)}: App Mesh has no such field")
                if not extra:
                    self._faults += [one.fault(path, text) for path, text in faults(error, kind)]
                    return None
            else:
                self._report.carried[one.kind] += 1
                return made

    def _leave_out(self, one: _Resource, spec: Mapping[str, Any], path: Path_) -> None:
        for key, why in _OF_KUBERNETES.items():
            if spec.get(key):
                told = json.dumps(spec[key], sort_keys=True)
                self._report.left_out.append(f"{one.shown}: {key} {told}: {why}")

    def _translated(self, value: Any, one: _Resource) -> Any:
        if isinstance(value, list):
            return [self._translated(item, one) for item in value]
        if not isinstance(value, Mapping):
            return value
        if {*value} == {"unit", "value"}:
            return f"{value['value']}{value['unit']}"
        found: dict[str, Any] = {}
        for key, item in ((str(key), item) for key, item in value.items()):
            if key in _REFERENCES:
                found[_REFERENCES[key]] = self._referred(_REFERENCES[key], item, one)
            elif key.endswith("Millis"):
                found[_SPELLINGS.get(key, key)] = f"{item}ms"
            elif key == "acm" and isinstance(item, Mapping):
                found["file"] = self._of_acm(item, one)
            else:
                inner = self._translated(item, one)
                if key in _REFERENCES.values() and isinstance(inner, Mapping) and key in inner:
                    # A reference stands alone here, and what was beside it one level up.
                    found |= inner
                else:
                    found[_SPELLINGS.get(key, key)] = inner
        return found

    def _referred(self, kind: str, value: Any, one: _Resource) -> Any:
        if isinstance(value, str):
            # A name of the API, or an ARN: arn:aws:appmesh:...:mesh/m/virtualNode/n
            return value.rpartition("/")[2] if value.startswith("arn:") else value
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            return value
        resource = f"{kind[0].upper()}{kind[1:]}"
        namespace = str(value.get("namespace") or one.namespace)
        joined = f"{value['name']}{'.' if resource == 'VirtualService' else '_'}{namespace}"
        return self._names.get((resource, namespace, value["name"]), joined)

    def _of_acm(self, value: Mapping[str, Any], one: _Resource) -> Any:
        """Only App Mesh's control plane brought certificates of ACM to Envoys."""
        if "certificateARN" in value or "certificateArn" in value:
            chain, key = f"{CERTIFICATES}/{one.name}.crt", f"{CERTIFICATES}/{one.name}.key"
            self._report.changed.append(
                f"{one.shown}: its certificate is in ACM, which only App Mesh's control plane brought to Envoys: "
                f"put one into {chain} and {key}"
            )
            return {"certificateChain": chain, "privateKey": key}
        chain = f"{CERTIFICATES}/private-ca.crt"
        self._report.changed.append(
            f"{one.shown}: it trusts a CA by its ARN, which only App Mesh's control plane could follow: put the CA's "
            f"certificate into {chain}"
        )
        return {"certificateChain": chain}

    def _grouped(self, one: _Resource) -> list[dict[str, Any]]:
        services = [other for other in self._resources if other.kind == "VirtualService"]
        names: list[str] = []
        for group in one.spec.get("backendGroups") or ():
            namespace = str(group.get("namespace") or one.namespace)
            if group.get("name") == "*":
                names += [other.aws_name for other in services if other.namespace == namespace]
                continue
            members = [
                item
                for other in self._resources
                if (other.kind, other.namespace, other.name) == ("BackendGroup", namespace, group.get("name"))
                for item in other.spec.get("virtualservices") or ()
            ]
            if not members:
                self._faults.append(one.fault(("backendGroups",), f"there is no BackendGroup {group.get('name')}"))
            names += [self._referred("virtualService", {"namespace": namespace, **item}, one) for item in members]
        if names:
            self._report.changed.append(f"{one.shown}: its backend groups are the backends that they stand for")
        own = [self._translated(backend, one).get("virtualService") for backend in one.spec.get("backends") or ()]
        return [{"virtualService": name} for name in dict.fromkeys(names) if name not in own]

    def _routes(self, router: _Resource) -> list[dict[str, Any]]:
        """Those that the API has as resources of their own."""
        return [
            {**self._translated(one.spec, one), "name": one.name}
            for one in self._resources
            if one.kind == "Route" and one.parent == router.name
        ]

    def _gateway_of(self, route: _Resource) -> str | None:
        gateways = [one for one in self._resources if one.kind == "VirtualGateway"]
        wanted = [one for one in gateways if _selects(one.spec.get("gatewayRouteSelector"), route.labels)]
        if len(wanted) == 1:
            return wanted[0].aws_name
        names = ", ".join(one.name for one in wanted or gateways) or "none"
        self._faults.append(route.fault((), f"which gateway it belongs to can't be told: {names}"))
        return None


def _selects(selector: Any, labels: Mapping[str, Any]) -> bool:
    """An empty selector takes all."""
    wanted = selector.get("matchLabels") if isinstance(selector, Mapping) else None
    return not isinstance(wanted, Mapping) or wanted.items() <= labels.items()


def _take_out(raw: Any, loc: Sequence[int | str]) -> None:
    *outer, last = loc
    for part in outer:
        raw = raw[part]
    del raw[last]


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
