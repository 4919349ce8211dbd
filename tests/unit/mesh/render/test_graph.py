"""The picture of the mesh shows every node, and every call that the access rules let through."""

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from mesh.cli import app
from mesh.contract import Contract
from mesh.model.mesh import load_mesh
from mesh.render.graph import Calls, mermaid, svg

CHECKOUT = Path(__file__).parents[4]
MESH = load_mesh()
CALLS = Calls.of(MESH, Contract.load())
SVG = "{http://www.w3.org/2000/svg}"


def test_what_the_access_rules_let_through_is_what_mesh_yaml_names() -> None:
    assert set(CALLS.between) == {(caller, node) for caller in MESH.nodes for node in MESH.backend_nodes(caller)}
    assert CALLS.between["auth", "user"] == ("CreateUser",)
    internal = {rpc.name for rpc in Contract.load().rpcs.values() if rpc.kind == "internal"}
    assert {name for names in CALLS.between.values() for name in names} == internal
    assert sum(map(len, CALLS.opened.values())) + len(
        [rpc for rpc in Contract.load().rpcs.values() if rpc.kind == "internal"]
    ) == len(Contract.load().rpcs)


def test_the_picture_has_a_box_for_each_node_and_a_line_for_each_call() -> None:
    root = ET.fromstring(svg(CALLS))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    for node, services in CALLS.services.items():
        assert node in texts
        assert set(services) <= set(texts)
    lines = [path for path in root.iter(f"{SVG}path") if path.get("class") == "call"]
    told = {path.findtext(f"{SVG}title") for path in lines}
    assert told == {f"{caller} calls {node}: {', '.join(names)}" for (caller, node), names in CALLS.between.items()}
    assert svg(CALLS) == svg(Calls.of(load_mesh(), Contract.load()))


def test_boxes_and_lanes_lie_beside_each_other() -> None:
    root = ET.fromstring(svg(CALLS))
    width = float(root.get("width", "0"))
    boxes = sorted(
        (float(box.get("y", "0")), float(box.get("height", "0")))
        for box in root.iter(f"{SVG}rect")
        if box.get("class") == "box"
    )
    for (top, height), (below, _) in pairwise(boxes):
        assert top + height < below
    lanes = [
        path.get("d", "").split("Q")[1].split(",")[0] for path in root.iter(f"{SVG}path") if path.get("class") == "call"
    ]
    assert len(set(lanes)) == len(lanes)
    assert max(map(float, lanes)) < width


def test_mermaid_has_the_same() -> None:
    text = mermaid(CALLS)
    assert text.startswith("flowchart LR\n")
    assert '  auth -.->|"CreateUser"| user\n' in text
    assert text.count("-.->") == len(CALLS.between)
    assert text.count(f"  {CALLS.gateway} -->") == len([node for node, opened in CALLS.opened.items() if opened])


def test_the_picture_of_the_docs_is_drawn_anew() -> None:
    assert (CHECKOUT / "docs" / "mesh.svg").read_text() == svg(CALLS), "`make gen` draws docs/mesh.svg: commit that"


@pytest.mark.parametrize(
    ("name", "begin"), [("mesh.svg", "<svg "), ("mesh.mmd", "flowchart LR")], ids=["picture", "mermaid"]
)
def test_a_file_gets_what_its_name_says(tmp_path: Path, name: str, begin: str) -> None:
    result = CliRunner().invoke(app, ["mesh", "graph", "--out", str(tmp_path / name)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / name).read_text().startswith(begin)


@pytest.mark.parametrize(
    ("name", "message"), [("mesh.png", "name a file with .svg or .mmd"), ("no/mesh.svg", "No such file or directory")]
)
def test_a_file_that_can_not_be_drawn_is_told(tmp_path: Path, name: str, message: str) -> None:
    result = CliRunner().invoke(app, ["mesh", "graph", "--out", str(tmp_path / name)])
    assert result.exit_code == 1
    assert message in result.output
