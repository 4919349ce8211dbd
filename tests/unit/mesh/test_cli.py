"""The `authmesh` command."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from authmesh.resource.v1 import resource_service_pb2
from typer.testing import CliRunner

from mesh import cli
from mesh.calling import CallError, find_rpc, parse_request
from mesh.contract import Contract


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract.load()


def authmesh(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "AUTHMESH_HOME": str(home)} | environment
    return subprocess.run([sys.executable, "-m", "mesh.cli", *arguments], capture_output=True, text=True, env=env, check=False)


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json"), ("inbox",), ("inbox", "--json"), ("call", "AuthService/SignIn", "{}")])
def test_without_a_mesh_every_command_is_one_clear_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = authmesh(*arguments, home=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"authmesh: no mesh runs in {tmp_path}: `make run-mesh` starts one\n"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"EDGE_PORT": "http"}, "EDGE_PORT=http is no port"),
        ({"REDIS_URL": "localhost"}, "REDIS_URL must begin with"),
        ({"AUTHMESH_INFRA": "/nowhere"}, "no server environment in /nowhere"),
    ],
)
def test_a_start_that_cannot_succeed_is_one_clear_line(environment: dict[str, str], says: str, tmp_path: Path) -> None:
    done = authmesh("run", home=tmp_path, **environment)
    assert done.returncode == 1
    assert done.stderr.startswith(f"authmesh: {says}")
    assert done.stderr.count("\n") == 1


def test_help_lists_the_commands_of_packages() -> None:
    help_text = CliRunner().invoke(cli.app, ["--help"]).output
    for name in ("run", "status", "inbox", "call", "admin"):
        assert name in help_text


def added(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setattr(cli, "_added", lambda: {"greet": EntryPoint("greet", value, cli.GROUP)})


def greet(name: str) -> None:
    """Greet somebody."""
    typer.echo(f"hello {name}")


def test_a_function_may_be_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "some_package", sys.modules[__name__])
    added(monkeypatch, "some_package:greet")
    assert CliRunner().invoke(cli.app, ["greet", "you"]).output == "hello you\n"


def test_a_command_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    added(monkeypatch, "no_such_package:app")
    result = CliRunner().invoke(cli.app, ["greet", "you"])
    assert result.exit_code != 0
    assert "no_such_package" in result.output


@pytest.mark.parametrize(
    "name",
    [
        "ResourceService/GetResource",
        "resource.v1.ResourceService/GetResource",
        "authmesh.resource.v1.ResourceService/GetResource",
        "/authmesh.resource.v1.ResourceService/GetResource",
        "ResourceService.GetResource",
    ],
)
def test_a_method_may_be_named_by_any_end_of_its_name(name: str, contract: Contract) -> None:
    assert find_rpc(contract, name).path == "/authmesh.resource.v1.ResourceService/GetResource"


@pytest.mark.parametrize(("name", "says"), [("ResourceService/Get", "no RPC"), ("Service/GetResource", "no RPC"), ("GetResource", "no RPC")])
def test_a_method_that_does_not_exist_is_named(name: str, says: str, contract: Contract) -> None:
    with pytest.raises(CallError, match=f"{name} names {says}; known: .*ResourceService/GetResource"):
        find_rpc(contract, name)


def test_a_request_is_proto3_json(contract: Contract) -> None:
    rpc = find_rpc(contract, "ResourceService/ListResources")
    request = parse_request(contract, rpc, '{"pageSize": 7}')
    assert resource_service_pb2.ListResourcesRequest.FromString(request.SerializeToString()).page_size == 7


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pageSize": "x"}', '{"nonsense": 1}', "7"])
def test_a_request_that_is_none_is_told(text: str, contract: Contract) -> None:
    with pytest.raises(CallError, match=r"the request is no authmesh.resource.v1.ListResourcesRequest"):
        parse_request(contract, find_rpc(contract, "ResourceService/ListResources"), text)
