"""Gateway API in three flavors, held to the official CRDs with unknown fields refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.contract import Contract
from mesh.model.agreement import RenderError
from mesh.model.mesh import Mesh, load_mesh
from mesh.render.envoy import TokenRules
from mesh.render.gateway_api import FLAVORS, GatewayApiRenderer
from mesh.render.gateway_api.routes import opened
from tests.kit.crds import validator

CRDS = Path(__file__).parents[3] / "kit" / "gateway_crds"
MESH, CONTRACT = load_mesh(), Contract.load()
TOKENS = TokenRules("https://auth.test", "shop", 60)
VALIDATORS = {
    f"{crd['group']}/{crd['version']} {crd['kind']}": validator(crd["schema"])
    for crd in (yaml.safe_load(file.read_text()) for file in CRDS.glob("*.yaml"))
}
UNCHECKED = {"application-networking.k8s.aws/v1alpha1 TargetGroupPolicy"}
"""Its CRD could not be had."""


def resources(flavor: str, mesh: Mesh = MESH) -> list[Any]:
    files = GatewayApiRenderer(TOKENS, "shop", flavor, accept_loss=True).render(mesh, CONTRACT)
    return [document for text in files.values() for document in yaml.safe_load_all(text) if document]


def of_kind(flavor: str, kind: str, mesh: Mesh = MESH) -> dict[str, Any]:
    return {one["metadata"]["name"]: one for one in resources(flavor, mesh) if one["kind"] == kind}


@pytest.mark.parametrize("flavor", FLAVORS)
def test_every_resource_is_valid_and_has_no_field_that_the_crd_lacks(flavor: str) -> None:
    names = set()
    for resource in resources(flavor):
        kind = f"{resource['apiVersion']} {resource['kind']}"
        if kind not in UNCHECKED:
            faults = [f"{error.json_path}: {error.message}" for error in VALIDATORS[kind].iter_errors(resource)]
            assert not faults, (kind, resource["metadata"]["name"], faults)
        assert resource["metadata"]["namespace"] == "shop"
        assert (kind, resource["metadata"]["name"]) not in names
        names.add((kind, resource["metadata"]["name"]))


def test_a_field_that_a_crd_lacks_is_seen() -> None:
    (route, *_) = of_kind("istio", "GRPCRoute").values()
    route["spec"]["rules"][0]["timeout"] = "1s"
    assert list(VALIDATORS["gateway.networking.k8s.io/v1 GRPCRoute"].iter_errors(route))


@pytest.mark.parametrize("flavor", FLAVORS)
def test_what_a_flavor_can_not_hold_is_refused_or_listed_in_each_file(flavor: str) -> None:
    with pytest.raises(RenderError) as refused:
        GatewayApiRenderer(TOKENS, "shop", flavor).render(MESH, CONTRACT)
    files = GatewayApiRenderer(TOKENS, "shop", flavor, accept_loss=True).render(MESH, CONTRACT)
    for line in FLAVORS[flavor].lost:
        assert f"  {line}" in str(refused.value).splitlines()
        assert all(f"# Without {line}.\n" in text for text in files.values())


def test_a_flavor_that_there_is_not_is_told_with_those_that_there_are() -> None:
    with pytest.raises(RenderError, match=r"kong is not a flavor .*: choose from istio, envoy-gateway, lattice"):
        GatewayApiRenderer(TOKENS, "shop", "kong", accept_loss=True).render(MESH, CONTRACT)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_clients_reach_what_mesh_yaml_opens_and_nothing_else(flavor: str) -> None:
    gateway = MESH.virtual_gateway.name
    services = set()
    for route in of_kind(flavor, "GRPCRoute").values():
        if route["spec"]["parentRefs"] == [{"name": gateway, "sectionName": "https"}]:
            services |= {rule["matches"][0]["method"]["service"] for rule in route["spec"]["rules"]}
    assert services == {route.match.service_name for route in MESH.gateway_routes}


def test_weights_are_those_of_mesh_yaml() -> None:
    raw = MESH.model_dump(by_alias=True)
    raw["virtualRouters"][0]["routes"][0]["grpcRoute"]["action"]["weightedTargets"] = (
        {"virtualNode": "auth", "weight": 90},
        {"virtualNode": "user", "weight": 10},
    )
    mesh = Mesh.model_validate(raw)
    (rule,) = opened(mesh, MESH.gateway_routes[0])["spec"]["rules"]
    assert [(ref["name"], ref["port"], ref["weight"]) for ref in rule["backendRefs"]] == [
        ("auth", 8080, 90),
        ("user", 8080, 10),
    ]


def test_istio_lets_callers_call_what_the_access_rules_say() -> None:
    policies = of_kind("istio", "AuthorizationPolicy")
    allowed = {
        (principal.rpartition("/")[2], path)
        for rule in policies["user"]["spec"]["rules"]
        for principal in rule["from"][0]["source"]["principals"]
        for path in rule["to"][0]["operation"]["paths"]
    }
    assert ("auth", "/authmesh.user.v1.UserDirectory/CreateUser") in allowed
    assert ("resource", "/authmesh.user.v1.UserDirectory/LookupUser") in allowed
    assert ("resource", "/authmesh.user.v1.UserDirectory/CreateUser") not in allowed
    assert ("edge-istio", "/authmesh.user.v1.UserService/GetUser") in allowed
    assert not [path for caller, path in allowed if caller == "edge-istio" and "UserDirectory" in path]
    assert of_kind("istio", "PeerAuthentication")["default"]["spec"] == {"mtls": {"mode": "STRICT"}}


def test_istio_demands_a_token_at_the_gateway_where_the_contract_does() -> None:
    demanded, public = of_kind("istio", "AuthorizationPolicy")["edge"]["spec"]["rules"]
    assert demanded["from"] == [{"source": {"requestPrincipals": ["*"]}}]
    assert "/authmesh.user.v1.UserService/GetUser" in demanded["to"][0]["operation"]["paths"]
    assert "/authmesh.auth.v1.AuthService/SignIn" in public["to"][0]["operation"]["paths"]
    internal = {rpc.path for rpc in CONTRACT.rpcs.values() if rpc.kind == "internal"}
    assert not internal & {*demanded["to"][0]["operation"]["paths"], *public["to"][0]["operation"]["paths"]}


def test_envoy_gateway_gets_timeouts_retries_breakers_and_proof_of_who_a_node_is() -> None:
    traffic = of_kind("envoy-gateway", "BackendTrafficPolicy")
    assert traffic["token-service"]["spec"]["retry"] == {
        "numRetries": 2,
        "perRetry": {"timeout": "3s"},
        "retryOn": {"triggers": ["unavailable", "reset", "gateway-error", "connect-failure"]},
    }
    assert "retry" not in traffic["auth-service"]["spec"]
    assert traffic["auth-service"]["spec"]["timeout"] == {"http": {"requestTimeout": "15s"}}
    (name,) = of_kind("envoy-gateway", "BackendTLSPolicy")["token"]["spec"]["validation"]["subjectAltNames"]
    assert name == {"type": "URI", "uri": "spiffe://authmesh/ns/shop/sa/token"}


def test_lattice_has_one_method_match_a_rule_and_few_enough_rules() -> None:
    for route in of_kind("lattice", "GRPCRoute").values():
        assert len(route["spec"]["rules"]) <= 10
        assert all(len(rule["matches"]) == 1 for rule in route["spec"]["rules"])
    assert of_kind("lattice", "TargetGroupPolicy").keys() == set(MESH.nodes)
