"""Envoy's messages as plain data, and how they are written down."""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import yaml

Resource = dict[str, Any]
"""An Envoy message in its JSON form."""

_EXTENSIONS = "type.googleapis.com/envoy.extensions."
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_VERSION = 16
"""Characters of a version, which is a hash of the resources."""
_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Dumper(_Base):  # type: ignore[misc] # the faster one is there where libyaml is
    """Writes values out as often as they occur, without anchors."""

    def ignore_aliases(self, data: object) -> bool:
        """See `yaml.representer.BaseRepresenter`."""
        return True


def typed(kind: str, **fields: Any) -> Resource:
    """A `google.protobuf.Any` of one of Envoy's extension messages: `typed("filters.http.cors.v3.Cors")`."""
    return {"@type": _EXTENSIONS + kind, **fields}


def extension(name: str, kind: str, **fields: Any) -> Resource:
    """A named extension with its configuration."""
    return {"name": name, "typed_config": typed(kind, **fields)}


def only_with(header: str, http_filter: Resource) -> Resource:
    """An HTTP filter for requests that have a header, whatever it says.

    What others make of it is not to be guessed here.
    """
    source = {"@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": header}
    present = {
        "input": {"name": "header", "typed_config": source},
        "value_match": {"safe_regex": {"google_re2": {}, "regex": ".*"}},
    }
    skip = {"name": "skip", "typed_config": typed("filters.common.matcher.action.v3.SkipFilter")}
    matcher = {"predicate": {"not_matcher": {"single_predicate": present}}, "on_match": {"action": skip}}
    matched = typed(
        "common.matching.v3.ExtensionWithMatcher",
        extension_config=http_filter,
        xds_matcher={"matcher_list": {"matchers": [matcher]}},
    )
    return {"name": http_filter["name"], "typed_config": matched}


def http2_upstream(**options: Any) -> Resource:
    """The part of a cluster that says that it speaks HTTP/2."""
    config = {"explicit_http_config": {"http2_protocol_options": options}}
    return {"typed_extension_protocol_options": {_HTTP: {"@type": f"type.googleapis.com/{_HTTP}", **config}}}


def seconds(duration: timedelta) -> str:
    """A duration as protobuf's JSON writes it."""
    return f"{duration.total_seconds():g}s"


def to_yaml(resource: Resource) -> str:
    """The text of a file. Values are never shared by anchors: Envoy's limits on them are not ours to find."""
    return str(yaml.dump(resource, Dumper=Dumper, sort_keys=False, width=150))


def discovery(kind: str, resources: Sequence[Resource]) -> str:
    """The text of a file that Envoy subscribes to, with a version by which an Envoy tells what it runs.

    `listener.v3.Listener`, `cluster.v3.Cluster`, `route.v3.RouteConfiguration`.
    """
    prefix = (
        "type.googleapis.com/envoy.extensions."
        if kind.startswith("transport_sockets.")
        else "type.googleapis.com/envoy.config."
    )
    text = to_yaml({"resources": [{"@type": prefix + kind, **resource} for resource in resources]})
    return f"version_info: {hashlib.sha256(text.encode()).hexdigest()[:_VERSION]}\n{text}"


def from_file(placement_config: str, file: str) -> Resource:
    """A configuration source: a file of the rendered set.

    It is read again when something is moved into the directory: another file over it, or the link by which Kubernetes
    changes all files of a ConfigMap at once.
    """
    path = {"path": f"{placement_config}/{file}", "watched_directory": {"path": placement_config}}
    return {"path_config_source": path, "resource_api_version": "V3"}
