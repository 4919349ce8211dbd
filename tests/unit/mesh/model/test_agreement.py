"""mesh.yaml and the access rules must tell the same story; where they don't, the RPC and the node are named."""

from typing import Any

import pytest
import yaml

from mesh.contract import Contract
from mesh.model.agreement import callers, jwks_rpc
from mesh.model.mesh import DEFAULT_FILE, Mesh, load_mesh
from mesh.render import RenderError, check_agreement

CONTRACT = Contract.load()


def changed(tmp_path: Any, change: Any) -> Mesh:
    raw = yaml.safe_load(DEFAULT_FILE.read_text())
    change(raw)
    file = tmp_path / "mesh.yaml"
    file.write_text(yaml.safe_dump(raw))
    return load_mesh(file)


def test_the_mesh_agrees_with_the_contract() -> None:
    check_agreement(load_mesh(), CONTRACT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda raw: raw["virtualNodes"][0]["backends"].remove("user.authmesh"),
            (
                r"/authmesh.user.v1.UserDirectory/CreateUser: its access rule names auth, but virtual "
                r"node auth does not list user"
            ),
        ),
        (
            lambda raw: raw["virtualNodes"][4]["backends"].remove("token.authmesh"),
            (
                r"TokenIssuer/GetRevocationSnapshot: its access rule names audit, but virtual node "
                r"audit does not list token"
            ),
        ),
        (
            lambda raw: raw["virtualNodes"][4]["backends"].append("user.authmesh"),
            r"virtual node audit lists user among its backends, but no access rule of .*UserDirectory names audit",
        ),
        (
            lambda raw: raw["gatewayRoutes"].append(
                {
                    "name": "issuer",
                    "match": {"serviceName": "authmesh.token.v1.TokenIssuer"},
                    "virtualService": "token.authmesh",
                }
            ),
            r"/authmesh.token.v1.TokenIssuer/IssueTokens: is internal, but gatewayRoutes issuer opens",
        ),
        (
            lambda raw: raw["gatewayRoutes"].remove(
                next(route for route in raw["gatewayRoutes"] if route["name"] == "audit-service")
            ),
            r"AuditService/QueryEvents: is for clients, but no gateway route of edge opens",
        ),
        (
            lambda raw: raw["virtualRouters"][0]["routes"].pop(),
            r"authmesh.auth.v1.CredentialDirectory: no virtual router serves it",
        ),
        (
            lambda raw: raw["virtualRouters"][0]["routes"].append(raw["virtualRouters"][1]["routes"][0]),
            r"authmesh.token.v1.TokenService: served by more than one virtual router: auth, token",
        ),
        (
            lambda raw: raw["virtualRouters"][0]["routes"][0]["grpcRoute"]["match"].update(
                serviceName="authmesh.auth.v1.Nothing"
            ),
            r"route auth-service is for authmesh.auth.v1.Nothing, which is not in the contract",
        ),
        (
            lambda raw: raw["gatewayRoutes"][0].update(virtualService="user.authmesh"),
            r"user.authmesh does not serve authmesh.auth.v1.AuthService",
        ),
        (
            lambda raw: raw["virtualGateway"]["rateLimits"][0]["methods"].append("/a.B/C"),
            r"rate limit for /a.B/C, which is not in the contract",
        ),
        (
            lambda raw: raw["virtualGateway"]["cookieMethods"].append("/a.B/C"),
            r"cookies for /a.B/C, which is not in the contract",
        ),
    ],
)
def test_a_disagreement_names_the_rpc_and_the_node(tmp_path: Any, change: Any, message: str) -> None:
    with pytest.raises(RenderError, match=message):
        check_agreement(changed(tmp_path, change), CONTRACT)


def test_every_public_method_has_a_rate_limit_of_its_own() -> None:
    limited = {path for limit in load_mesh().virtual_gateway.rate_limits for path in limit.methods}
    assert {path for path, rpc in CONTRACT.rpcs.items() if rpc.access.WhichOneof("kind") == "public"} <= limited


def test_who_is_admitted_follows_from_the_access_rule() -> None:
    mesh = load_mesh()

    def admitted(node: str, path: str) -> set[str]:
        return set(callers(mesh, CONTRACT, node, CONTRACT.rpcs[path]))

    assert admitted("token", "/authmesh.token.v1.TokenIssuer/IssueTokens") == {"auth"}
    assert admitted("token", "/authmesh.token.v1.TokenIssuer/GetRevocationSnapshot") == set(mesh.nodes)
    assert admitted("token", "/authmesh.token.v1.TokenService/GetJwks") == {*mesh.nodes, "edge"}
    assert admitted("auth", "/authmesh.auth.v1.AuthService/SignIn") == {"edge", "user"}
    assert admitted("resource", "/authmesh.resource.v1.ResourceService/GetResource") == {"edge"}


def test_the_jwks_is_a_public_rpc_of_the_named_service(tmp_path: Any) -> None:
    assert jwks_rpc(load_mesh(), CONTRACT).path == "/authmesh.token.v1.TokenService/GetJwks"
    with pytest.raises(RenderError, match=r"token.authmesh has no public RPC with GET /keys"):
        jwks_rpc(changed(tmp_path, lambda raw: raw["jwks"].update(path="/keys")), CONTRACT)
