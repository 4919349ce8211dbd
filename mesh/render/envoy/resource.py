"""Envoy's messages as plain data, and how they are written down."""

from datetime import timedelta
from typing import Any

import yaml

Resource = dict[str, Any]
"""An Envoy message in its JSON form."""

_EXTENSIONS = "type.googleapis.com/envoy.extensions."
_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_Base):  # type: ignore[misc]
    def ignore_aliases(self, data: object) -> bool:
        return True


def typed(kind: str, **fields: Any) -> Resource:
    """A `google.protobuf.Any` of one of Envoy's extension messages: `typed("filters.http.cors.v3.Cors")`."""
    return {"@type": _EXTENSIONS + kind, **fields}


def extension(name: str, kind: str, **fields: Any) -> Resource:
    """A named extension with its configuration."""
    return {"name": name, "typed_config": typed(kind, **fields)}


def seconds(duration: timedelta) -> str:
    """A duration as protobuf's JSON writes it."""
    return f"{duration.total_seconds():g}s"


def to_yaml(resource: Resource) -> str:
    """The text of a file. Values are never shared by anchors: Envoy's limits on them are not ours to find."""
    return str(yaml.dump(resource, Dumper=_Dumper, sort_keys=False, width=150))


def discovery(kind: str, resources: list[Resource]) -> str:
    """The text of a file that Envoy subscribes to: `listener.v3.Listener`, `cluster.v3.Cluster`, `route.v3.RouteConfiguration`."""
    prefix = "type.googleapis.com/envoy.extensions." if kind.startswith("transport_sockets.") else "type.googleapis.com/envoy.config."
    return to_yaml({"resources": [{"@type": prefix + kind, **resource} for resource in resources]})


def from_file(placement_config: str, file: str) -> Resource:
    """A configuration source: a file of the rendered set, read again when another is moved over it."""
    return {"path_config_source": {"path": f"{placement_config}/{file}"}, "resource_api_version": "V3"}
