"""Every render target keeps to the same rules, and files are written where nothing else is lost."""

from pathlib import Path, PurePosixPath

import pytest
import yaml

from mesh.contract import Contract
from mesh.model.agreement import RenderError
from mesh.model.mesh import DEFAULT_FILE, load_mesh
from mesh.render.appmesh import AppMeshApiRenderer, AppMeshRenderer
from mesh.render.envoy import TokenRules
from mesh.render.envoy.memory import memory_fault
from mesh.render.envoy.renderer import EnvoyRenderer
from mesh.render.gateway_api import FLAVORS, GatewayApiRenderer
from mesh.render.kubernetes import Images, KubernetesRenderer
from mesh.render.output import MARK, OutputError, write
from mesh.render.renderer import Renderer

MESH, CONTRACT = load_mesh(), Contract.load()
RENDERERS: list[Renderer] = [
    EnvoyRenderer(TokenRules("https://issuer.test", "authmesh", 60)),
    KubernetesRenderer(TokenRules("https://issuer.test", "authmesh", 60), "shop", Images("services", "envoy")),
    *(
        GatewayApiRenderer(TokenRules("https://issuer.test", "authmesh", 60), "shop", flavor, accept_loss=True)
        for flavor in FLAVORS
    ),
    AppMeshRenderer("shop", accept_loss=True),
    AppMeshApiRenderer("shop", accept_loss=True),
]


@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda renderer: renderer.target)
def test_the_same_mesh_gives_the_same_bytes_below_the_output_directory(renderer: Renderer) -> None:
    files = renderer.render(MESH, CONTRACT)
    assert files
    assert files == renderer.render(load_mesh(), Contract.load())
    for name, text in files.items():
        path = PurePosixPath(name)
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert text.endswith("\n")
        # What another machine does not have.
        assert str(DEFAULT_FILE.parents[1]) not in text
        assert "/site-packages/" not in text
        assert list(yaml.safe_load_all(text))


@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda renderer: renderer.target)
def test_a_mesh_that_disagrees_with_the_access_rules_is_refused(renderer: Renderer, tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    text = DEFAULT_FILE.read_text()
    assert "backends: [token.authmesh, user.authmesh]" in text
    file.write_text(text.replace("backends: [token.authmesh, user.authmesh]", "backends: [token.authmesh]"))
    with pytest.raises(RenderError, match="does not list user among its backends"):
        renderer.render(load_mesh(file), CONTRACT)


def test_each_envoy_has_a_directory_of_its_own() -> None:
    files = RENDERERS[0].render(MESH, CONTRACT)
    assert {name.split("/")[0] for name in files} == {*MESH.nodes, MESH.virtual_gateway.name}
    assert "token.authmesh" in files["auth/cds.yaml"]


def test_what_an_earlier_run_wrote_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    assert write({"a/b.yaml": "1\n", "c.yaml": "2\n"}, tmp_path / "out") == 2
    assert write({"c.yaml": "3\n"}, tmp_path / "out") == 1
    assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} == {MARK, "c.yaml"}
    (tmp_path / "mine").write_text("")
    with pytest.raises(OutputError, match="holds other files"):
        write({"c.yaml": "3\n"}, tmp_path)
    with pytest.raises(OutputError, match="can't be written"):
        write({"c.yaml": "3\n"}, tmp_path / "mine")


@pytest.mark.parametrize("bound", ["max_connections", "max_requests", "max_request_bytes"])
def test_bounds_of_the_edge_that_do_not_fit_its_heap_are_a_fault(bound: str) -> None:
    assert memory_fault(MESH, CONTRACT) is None
    gateway = MESH.virtual_gateway
    least = gateway.model_copy(update={"max_heap_bytes": gateway.max_heap_bytes * 3 // 4})
    assert memory_fault(MESH.model_copy(update={"virtual_gateway": least}), CONTRACT) is not None
    if bound != "max_request_bytes":
        more = gateway.model_copy(update={bound: getattr(gateway, bound) * 4})
        said = memory_fault(MESH.model_copy(update={"virtual_gateway": more}), CONTRACT)
        assert said is not None
        assert "lower maxConnections, maxRequests or maxRequestBytes, or raise maxHeapBytes" in said
