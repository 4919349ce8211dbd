"""mesh.yaml is read strictly: what is wrong in it is named with its file and key."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from mesh.model.document import DocumentError
from mesh.model.mesh import DEFAULT_FILE, load_mesh, parse_duration, parse_origin

DESIGN = {
    "auth": ("token", "user"),
    "token": (),
    "user": ("token", "auth", "resource", "audit"),
    "resource": ("token", "user"),
    "audit": ("token",),
}
"""The services of the design, and whom each calls. There may be more."""


@pytest.fixture
def raw() -> Any:
    # Through JSON, so that YAML's aliases are copies and one change is made in one place.
    return json.loads(json.dumps(yaml.safe_load(DEFAULT_FILE.read_text())))


def load(tmp_path: Path, raw: Any) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(yaml.safe_dump(raw))
    load_mesh(file)


def test_the_mesh_has_the_services_of_the_design() -> None:
    mesh = load_mesh()
    assert mesh.virtual_gateway.name == "edge"
    assert {name: mesh.backend_nodes(name) for name in DESIGN} == DESIGN
    assert mesh.jwks_node() == "token"
    assert mesh.spiffe_ids.of("auth") == "spiffe://authmesh/auth"


@pytest.mark.parametrize(("text", "seconds"), [("250ms", 0.25), ("15s", 15), ("1.5s", 1.5), ("5m", 300), ("1h", 3600)])
def test_a_duration_has_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["15", 15, "s", "-1s", "1 s", "1d", "", None])
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a duration is a number and"):
        parse_duration(value)


def test_an_unknown_key_is_named_with_file_and_place(tmp_path: Path, raw: Any) -> None:
    raw["virtualNodes"][1]["listener"]["conectionPool"] = {}
    with pytest.raises(
        DocumentError,
        match=r"mesh\.yaml:\d+:5: virtualNodes\[1\]\.listener\.conectionPool: [^:]*: did you mean connectionPool",
    ):
        load(tmp_path, raw)


def test_every_fault_is_reported_at_once(tmp_path: Path, raw: Any) -> None:
    raw["virtualGateway"]["maxConnections"] = "many"
    raw["virtualRouters"][0]["routes"][0]["grpcRoute"]["timeout"]["perRequest"] = 15
    with pytest.raises(DocumentError) as error:
        load(tmp_path, raw)
    assert "virtualRouters[0].routes[0].grpcRoute.timeout.perRequest: a duration is" in str(error.value)
    assert "virtualGateway.maxConnections: " in str(error.value)
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda raw: raw["virtualNodes"][0]["backends"].append("nobody"),
            r"virtualNodes\[0\].backends\[2\]: there is no virtual service nobody",
        ),
        (
            lambda raw: raw["virtualServices"][0].update(virtualRouter="nobody"),
            r"virtualServices\[0\].virtualRouter: there is no virtual router nobody",
        ),
        (
            lambda raw: raw["gatewayRoutes"][0].update(virtualService="nobody"),
            r"gatewayRoutes\[0\].virtualService: there is no virtual service nobody",
        ),
        (
            lambda raw: raw["jwks"].update(virtualService="nobody"),
            "jwks.virtualService: there is no .* nobody",
        ),
        (
            lambda raw: raw["virtualNodes"].append(raw["virtualNodes"][0]),
            r"virtualNodes\[\d+\].name: more than one",
        ),
        (
            lambda raw: raw["virtualGateway"].update(name="auth"),
            "virtualGateway.name: a virtual node is",
        ),
        (
            lambda raw: raw["virtualRouters"][0]["routes"].append(raw["virtualRouters"][0]["routes"][0]),
            r"virtualRouters\[0\].routes\[4\].name: more than one is called auth-service",
        ),
        (
            lambda raw: raw["virtualRouters"][0]["routes"].append(
                raw["virtualRouters"][0]["routes"][0] | {"name": "a"}
            ),
            r"routes\[4\].match: a takes the same calls as auth-service",
        ),
        (
            lambda raw: raw["gatewayRoutes"].append(raw["gatewayRoutes"][0] | {"name": "again"}),
            r"gatewayRoutes\[\d+\].match: again takes the same calls as auth-service",
        ),
        (lambda raw: raw["virtualNodes"][0].update(name="../auth"), "should match pattern"),
        (lambda raw: raw.update(egressFilter="ALLOW_ALL"), "egressFilter"),
        (
            lambda raw: raw["virtualRouters"][1]["routes"][0]["grpcRoute"]["retryPolicy"].update(perRetryTimeout="1m"),
            "perRetryTimeout is longer",
        ),
        (
            lambda raw: raw["virtualRouters"][0]["routes"][0]["grpcRoute"]["action"]["weightedTargets"][0].update(
                weight=0
            ),
            "add up to 1..100",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, raw: Any, change: Any, message: str) -> None:
    change(raw)
    with pytest.raises(DocumentError, match=message):
        load(tmp_path, raw)


def test_a_file_that_is_missing_or_no_yaml_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"mesh\.yaml: No such file"):
        load_mesh(tmp_path / "mesh.yaml")
    (tmp_path / "mesh.yaml").write_text("name: [")
    with pytest.raises(DocumentError, match=r"mesh\.yaml:1:8: "):
        load_mesh(tmp_path / "mesh.yaml")


def test_the_model_can_t_be_changed() -> None:
    with pytest.raises(ValidationError):
        load_mesh().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example",
        "http://localhost:5173",
        "https://app.example:8443",
        "http://[::1]:5173",
        "capacitor://localhost",
        "https://xn--bcher-kva.example",
    ],
)
def test_an_origin_is_what_browsers_send(origin: str, tmp_path: Path, raw: Any) -> None:
    assert parse_origin(origin) == origin
    raw["virtualGateway"]["cors"]["origins"] = [origin]
    load(tmp_path, raw)


@pytest.mark.parametrize(
    ("origin", "right"),
    [
        ("https://app.example/", "write https://app.example"),
        ("https://App.Example", "write https://app.example"),
        ("HTTPS://app.example", "write https://app.example"),
        ("https://app.example:443", "write https://app.example"),
        ("http://app.example:80", "write http://app.example"),
        ("https://app.example/path?query#part", "write https://app.example"),
        ("https://me@app.example", "write https://app.example"),
        ("https://bücher.example", "write https://xn--bcher-kva.example"),
        ("*", "name each one with scheme and host"),
        ("https://*.app.example", "name each one with scheme and host"),
        ("", "name each one with scheme and host"),
        ("null", "name each one with scheme and host"),
        ("app.example", "name each one with scheme and host"),
        ("localhost:5173", "name each one with scheme and host"),
        ("//app.example", "name each one with scheme and host"),
        ("https://", "name each one with scheme and host"),
        ("https://app.example:port", "name each one with scheme and host"),
    ],
)
def test_an_origin_that_could_never_match_is_refused_with_the_right_form(
    origin: str, right: str, tmp_path: Path, raw: Any
) -> None:
    raw["virtualGateway"]["cors"]["origins"] = ["https://good.example", origin]
    with pytest.raises(DocumentError, match=r"virtualGateway.cors.origins\[1\]: ") as error:
        load(tmp_path, raw)
    assert right in str(error.value)
