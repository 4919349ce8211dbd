"""The `authmesh` command."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
import pytest
import typer
from authmesh.resource.v1 import resource_service_pb2
from google.rpc import error_details_pb2, status_pb2
from typer.testing import CliRunner

from mesh import cli
from mesh.contract import Contract
from mesh.operator import dynamic_client
from mesh.operator.dynamic_client import CallError, _refusal, find_rpc, parse_request
from mesh.operator.implemented import implemented


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract.load()


def authmesh(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "AUTHMESH_HOME": str(home)} | environment
    return subprocess.run(
        [sys.executable, "-m", "mesh.cli", *arguments], capture_output=True, text=True, env=env, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("status", "--json"), ("inbox",), ("inbox", "--json"), ("call", "AuthService/SignIn", "{}")],
)
def test_without_a_mesh_every_command_is_one_clear_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = authmesh(*arguments, home=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"authmesh: no mesh runs in {tmp_path}: `make run-mesh` starts one\n"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"EDGE_PORT": "http"}, "EDGE_PORT=http is not a port"),
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


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "ResourceService/GetResorce",
            "ResourceService has no method GetResorce: did you mean ResourceService/GetResource?",
        ),
        (
            "resource.v1.ResourceService/getresource",
            "ResourceService has no method getresource: did you mean ResourceService/GetResource?",
        ),
        ("ResorceService/GetResource", "ResorceService is not a service: did you mean ResourceService/GetResource?"),
        ("ResorceService/GetResorce", "ResorceService is not a service: did you mean ResourceService/GetResource?"),
        (
            "UserService/SignIn",
            (
                "UserService has no method SignIn: it has GetUser, UpdateUser, ListUsers, SetRoles, "
                "DisableUser, EnableUser"
            ),
        ),
        ("People/SignIn", "People is not a service: did you mean AuthService/SignIn?"),
        ("GetResource", "GetResource is not SERVICE/METHOD: did you mean ResourceService/GetResource?"),
        ("SignUpp", "SignUpp is not SERVICE/METHOD: did you mean AuthService/SignUp?"),
        ("Nothing/Like", "Nothing is not a service: choose from AuditService, "),
        ("TokenIssuer/IssueToken", "TokenIssuer has no method IssueToken: it has none that can be called from outside"),
    ],
)
def test_a_method_that_does_not_exist_is_told_with_the_nearest(name: str, says: str, contract: Contract) -> None:
    with pytest.raises(CallError) as raised:
        find_rpc(contract, name)
    assert str(raised.value).startswith(says)


def test_a_method_that_is_not_built_can_be_called_and_is_not_offered(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = tuple(rpc for rpc in implemented(contract) if rpc.name != "ExchangeToken")
    monkeypatch.setattr(dynamic_client, "implemented", lambda _: built)
    assert find_rpc(contract, "AuthService/ExchangeToken").name == "ExchangeToken"
    for name in ("AuthService/ExchangeTokenn", "AuthService/Nothing", "ExchangeTokn"):
        with pytest.raises(CallError) as raised:
            find_rpc(contract, name)
        assert not any(f"ExchangeToken{end}" in str(raised.value) for end in ("?", ",", " "))


def refused(message: str, *violations: str) -> Any:
    """An error of grpc's with details, as the edge sends it."""
    fields = [
        error_details_pb2.BadRequest.FieldViolation(field=item.partition(": ")[0], description=item.partition(": ")[2])
        for item in violations
    ]
    status = status_pb2.Status(code=3, message=message)
    for detail in (
        error_details_pb2.ErrorInfo(reason="FIELD_INVALID", domain="authmesh"),
        error_details_pb2.BadRequest(field_violations=fields),
    ):
        status.details.add().Pack(detail)
    error = mock.Mock()
    error.code.return_value = grpc.StatusCode.INVALID_ARGUMENT
    error.trailing_metadata.return_value = [("grpc-status-details-bin", status.SerializeToString())]
    return error


def test_each_field_at_fault_is_told_once() -> None:
    told = ["name: must be a name", "page_size: must be less", "email: must be an address", "etag: must be short"]
    assert _refusal(refused("; ".join(told[:3]), *told)) == (
        "INVALID_ARGUMENT FIELD_INVALID: name: must be a name; page_size: must be less; email: must "
        "be an address\n  etag: must be short"
    )
    assert _refusal(refused(told[0], told[0])) == "INVALID_ARGUMENT FIELD_INVALID: name: must be a name"
    assert (
        _refusal(refused("not valid", told[0])) == "INVALID_ARGUMENT FIELD_INVALID: not valid\n  name: must be a name"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("kyes", "list"), "did you mean keys?"),
        (("statsu",), "did you mean status?"),
        (("xyz",), "choose from admin, "),
    ],
)
def test_a_mistyped_command_is_told_with_the_nearest(
    arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert f"{arguments[0]} is not a command: {says}" in result.output


@pytest.mark.parametrize("command", ["", "admin", "audit", "keys"])
def test_no_command_offers_to_install_completion(command: str) -> None:
    result = CliRunner().invoke(cli.app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "completion" not in result.output


def test_a_request_is_proto3_json(contract: Contract) -> None:
    rpc = find_rpc(contract, "ResourceService/ListResources")
    request = parse_request(contract, rpc, '{"pageSize": 7}')
    assert resource_service_pb2.ListResourcesRequest.FromString(request.SerializeToString()).page_size == 7


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pageSize": "x"}', '{"nonsense": 1}', "7"])
def test_a_request_that_is_none_is_told(text: str, contract: Contract) -> None:
    with pytest.raises(CallError, match=r"the request is not a valid authmesh.resource.v1.ListResourcesRequest"):
        parse_request(contract, find_rpc(contract, "ResourceService/ListResources"), text)
