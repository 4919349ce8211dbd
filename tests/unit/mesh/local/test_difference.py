"""When two forms of Envoy's configuration say the same."""

from typing import Any

import pytest

from mesh.local.difference import Difference, differences, rendered

CLUSTER = ("cluster", "c")


def told(wanted: Any, found: Any) -> list[tuple[str, str, str]]:
    return [
        (one.path, one.wanted, one.running) for one in differences({CLUSTER: {"v": wanted}}, {CLUSTER: {"v": found}})
    ]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("0.5s", "0.500s"),
        (9007199254740993, "9007199254740993"),
        (0, None),
        (False, None),
        ("STATIC", None),
        ({"inner": {"zero": 0, "none": []}}, None),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([{"name": "x", "v": "1s"}], [{"v": "1s", "name": "x"}]),
    ],
)
def test_what_protobuf_writes_otherwise_is_the_same(wanted: Any, found: Any) -> None:
    assert told(wanted, found) == []
    assert told(found, wanted) == []


@pytest.mark.parametrize(
    ("wanted", "found", "path"),
    [
        (1, 2, "v"),
        (True, None, "v"),
        (True, 1, "v"),
        ("1s", "1", "v"),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "v.a.b[1]"),
        ([{"name": "x", "v": 1}, {"name": "y", "v": 2}], [{"name": "y", "v": 2}], "v[x]"),
        ([{"name": "x"}, {"name": "y"}], [{"name": "y"}, {"name": "x"}], "v (order)"),
    ],
)
def test_what_differs_is_told_with_its_place(wanted: Any, found: Any, path: str) -> None:
    assert [one[0] for one in told(wanted, found)] == [path]


def test_a_resource_that_only_one_has_is_told_whole() -> None:
    assert list(differences({CLUSTER: {}}, {})) == [Difference("cluster c", "", "there", "missing")]
    assert list(differences({}, {CLUSTER: {}})) == [Difference("cluster c", "", "not there", "runs")]


def test_files_of_both_forms_hold_the_same_resources() -> None:
    static = {"bootstrap.yaml": "static_resources: {listeners: [{name: l}], clusters: [{name: c, type: STATIC}]}\n"}
    listed = {
        "bootstrap.yaml": "{}\n",
        "lds.yaml": "resources: [{'@type': t, name: l}]\n",
        "cds.yaml": "resources: [{'@type': t, name: c, type: STATIC}]\n",
    }
    assert rendered(static) == rendered(listed)
