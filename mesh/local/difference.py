"""Holds mesh.yaml against what a running Envoy says that it runs (`/config_dump`).

Envoy tells its configuration as protobuf's JSON: what has its default value is left out, and a number may stand in
quotes. Both forms of a value are the same here; everything else that differs is told with its place.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from mesh.local import probes
from mesh.operator.errors import OperatorError
from mesh.render.envoy import BOOTSTRAP_FILE, Placement
from mesh.render.envoy.configuration import CLUSTERS_FILE, LISTENERS_FILE

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DURATION = re.compile(r"(-?\d+(?:\.\d+)?)s")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_FIRST_OF_ENUMS = frozenset(
    {"STATIC", "AUTO", "ALLOW", "DEFAULT", "TCP", "EQ", "HUNDRED", "SANITIZE", "APPEND_IF_EXISTS_OR_ADD"}
)
"""Values that an Envoy leaves out, because they are their enumeration's first."""
_LONGEST = 60
"""Characters of a value that are told."""

Resource = Mapping[str, Any]
Resources = Mapping[tuple[str, str], Resource]
"""By kind and name."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not what mesh.yaml makes of it."""

    resource: str
    """Kind and name: `cluster cds_egress_authmesh_token_grpc_8080`."""
    path: str
    """Within it: `circuit_breakers.thresholds[0].max_requests`. Empty: of the resource as a whole."""
    wanted: str
    running: str


async def running(placement: Placement) -> Resources:
    """What an Envoy runs.

    Raises:
        OperatorError: it does not answer.
    """
    answer = await probes.http_get(placement.admin_socket, "/config_dump")
    if answer is None or answer[0] != 200:
        raise OperatorError(f"the Envoy at {placement.admin_socket} does not answer: `authmesh status` says how it is")
    return dict(_dumped(json.loads(answer[1])["configs"]))


def rendered(files: Mapping[str, str]) -> Resources:
    """What the files of an Envoy hold."""
    return dict(_rendered({name: yaml.load(text, Loader=_Loader) for name, text in files.items()}))


def differences(wanted: Resources, found: Resources) -> Iterator[Difference]:
    """What is not the same, in the order of the names of resources."""
    for key in sorted({*wanted, *found}):
        resource = " ".join(key)
        if key not in found:
            yield Difference(resource, "", "there", "missing")
        elif key not in wanted:
            yield Difference(resource, "", "not there", "runs")
        else:
            for path, right, wrong in _compared("", wanted[key], found[key]):
                yield Difference(resource, path, _told(right), _told(wrong))


def _rendered(files: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Resource]]:
    bootstrap = files[BOOTSTRAP_FILE]
    static = bootstrap.get("static_resources", {})
    listed = {
        "listener": (*static.get("listeners", ()), *_listed(files, LISTENERS_FILE)),
        "cluster": (*static.get("clusters", ()), *_listed(files, CLUSTERS_FILE)),
        "routes": [one for name in files if name.startswith("rds_") for one in _listed(files, name)],
    }
    yield ("bootstrap", ""), _without(bootstrap, "static_resources")
    for kind, resources in listed.items():
        for resource in resources:
            yield (kind, resource["name"]), _without(resource, "@type")


def _dumped(configs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[tuple[str, str], Resource]]:
    for config in configs:
        kind = config["@type"].rpartition(".")[2]
        if kind == "BootstrapConfigDump":
            # Envoy writes down which extensions it was built with.
            bootstrap = _without(config["bootstrap"], "static_resources")
            yield ("bootstrap", ""), bootstrap | {"node": {key: bootstrap["node"][key] for key in ("id", "cluster")}}
        elif kind == "ClustersConfigDump":
            for one in (*config.get("static_clusters", ()), *config.get("dynamic_active_clusters", ())):
                yield ("cluster", one["cluster"]["name"]), _without(one["cluster"], "@type")
        elif kind == "ListenersConfigDump":
            for one in config.get("static_listeners", ()):
                yield ("listener", one["listener"]["name"]), _without(one["listener"], "@type")
            for one in config.get("dynamic_listeners", ()):
                if "active_state" in one:
                    yield ("listener", one["name"]), _without(one["active_state"]["listener"], "@type")
        elif kind == "RoutesConfigDump":
            # Static ones are part of their listeners.
            for one in config.get("dynamic_route_configs", ()):
                yield ("routes", one["route_config"]["name"]), _without(one["route_config"], "@type")


def _listed(files: Mapping[str, Any], name: str) -> Sequence[Any]:
    return files[name]["resources"] if name in files else ()


def _without(resource: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name != key}


def _compared(path: str, wanted: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key in sorted({*wanted, *found}, key=str):
            inner = f"{path}.{key}" if path else str(key)
            yield from _compared(inner, wanted.get(key), found.get(key))
    elif isinstance(wanted, Sequence) and isinstance(found, Sequence) and not isinstance(wanted, str):
        yield from _compared_lists(path, wanted, found)
    elif not _same(wanted, found):
        yield path, wanted, found


def _compared_lists(path: str, wanted: Sequence[Any], found: Sequence[Any]) -> Iterator[tuple[str, Any, Any]]:
    """By the names of what is in them, where all have one: a route more does not make others of those behind it."""
    names, others = _names(wanted), _names(found)
    if names is None or others is None:
        names, others = [str(place) for place in range(len(wanted))], [str(place) for place in range(len(found))]
    right, wrong = dict(zip(names, wanted, strict=True)), dict(zip(others, found, strict=True))
    for name in dict.fromkeys((*names, *others)):
        if name in right and name in wrong:
            yield from _compared(f"{path}[{name}]", right[name], wrong[name])
        else:
            yield f"{path}[{name}]", right.get(name), wrong.get(name)
    shared = [name for name in names if name in wrong]
    if shared != [name for name in others if name in right]:
        yield f"{path} (order)", ", ".join(names), ", ".join(others)


def _names(items: Sequence[Any]) -> list[str] | None:
    found = [item.get("name") for item in items if isinstance(item, Mapping)]
    known = [name for name in found if isinstance(name, str)]
    return known if len({*known}) == len(items) else None


def _same(wanted: Any, found: Any) -> bool:
    if wanted is None or found is None:
        return _is_default(found if wanted is None else wanted)
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    return bool(_plain(wanted) == _plain(found))


def _is_default(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_default(one) for one in value.values())
    return not value or value in _FIRST_OF_ENUMS or value == "0s"


def _plain(value: Any) -> Any:
    text = str(value)
    if match := _DURATION.fullmatch(text):
        return float(match[1]), "s"
    return float(text) if _NUMBER.fullmatch(text) else text


def _told(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
