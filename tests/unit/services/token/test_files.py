"""Clients and roles from their files: what ships is good, and a mistake is named."""

from pathlib import Path

import pytest
import yaml

import services.token
from mesh.errors import InvalidArgument
from mesh.model.document import DocumentError
from services.token.clients.client import Client, load_clients
from services.token.clients.keys import client_keys
from services.token.sessions.grants import RoleScopes, grant, load_role_scopes
from tests.kit.tokens import Mint

HERE = Path(services.token.__file__).parent
ROLES = RoleScopes(default=frozenset({"a", "b"}), roles={"admin": frozenset({"x"}), "auditor": frozenset({"y"})})
CLIENT = Client(display_name="C", confidential=False, scopes=frozenset({"a", "b", "x"}))


def test_what_ships_is_good_and_fits_together() -> None:
    clients, roles = load_clients(HERE / "clients.yaml"), load_role_scopes(HERE / "roles.yaml")
    assert not clients["demo"].confidential
    assert any(client.confidential for client in clients.values())
    assert all(client.scopes <= roles.known for client in clients.values())
    everybody = roles.allowed([])
    assert everybody >= {"session:manage", "user:read", "user:write", "resource:read", "resource:write"}
    assert not [scope for scope in everybody if scope.startswith("admin:") or scope == "token:introspect"]
    assert roles.allowed(["admin"]) - everybody == {
        "admin:users",
        "admin:keys",
        "admin:clients",
        "admin:audit",
        "token:introspect",
    }


@pytest.mark.parametrize(("text", "place"), [
    ("", "it is empty"), ("[]", "the file"), ("clients: {}", "clients"),
    ("clients: {demo: {}}", "display_name is missing"),
    (": :", "clients.yaml"), ("\t", "clients.yaml"),
    ("clients: {Demo: {display_name: x, confidential: false, scopes: []}}", "clients.Demo"),
    ("clients: {demo: {display_name: x, confidential: 'no', scopes: []}}", "clients.demo.confidential"),
    ("clients: {demo: {display_name: x, confidential: false, scopes: ['a b']}}", "clients.demo.scopes"),
    ("clients: {demo: {display_name: x, confidential: false, scopes: [], secret: y}}", "clients.demo.secret"),
    ("clients: {demo: {display_name: x, confidential: false, scopes: [], access_token_seconds: 3601}}",
    "clients.demo.access_token_seconds"),
    ((
        "clients: "
        "{demo: {display_name: x, confidential: false, scopes: [], access_token_seconds: 600, session_seconds: 60}}"
    ), "clients.demo"),
    ("clients: {demo: {display_name: x, confidential: false, scopes: [], jwks: {keys: []}}}", "clients.demo.jwks"),
    ((
        "clients: "
        "{demo: {display_name: x, confidential: true, scopes: [], jwks: {keys: [{kty: oct, k: c2VjcmV0}]}}}"
    ), "clients.demo.jwks"),
    ((
        "clients: "
        "{abcdef0123456789abcdef0123456789: {display_name: x, confidential: false, scopes: []}}"
    ), "clients.abcdef"),
])  # fmt: skip
def test_a_mistake_in_the_clients_file_is_named_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    file = tmp_path / "clients.yaml"
    file.write_text(text)
    with pytest.raises(DocumentError, match=place.replace(".", r"\.")) as caught:
        load_clients(file)
    assert str(file) in str(caught.value)


def test_a_client_of_the_file_may_bring_its_keys(tmp_path: Path) -> None:
    file = tmp_path / "clients.yaml"
    mint = Mint("k1")
    content = {
        "clients": {
            "backend": {"display_name": "B", "confidential": True, "scopes": ["a"], "jwks": {"keys": [mint.jwk]}}
        }
    }
    file.write_text(yaml.safe_dump(content))
    assert client_keys(load_clients(file)["backend"].jwks).keys() == {"k1"}
    content["clients"]["backend"]["confidential"] = False
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(DocumentError, match="confidential"):
        load_clients(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"roles\.yaml"):
        load_role_scopes(tmp_path / "roles.yaml")


@pytest.mark.parametrize(("requested", "roles", "granted"), [
    ((), (), {"a", "b"}), ((), ("admin",), {"a", "b", "x"}), ((), ("auditor",), {"a", "b"}), ((),
    ("unknown",), {"a", "b"}),
    (("a",), (), {"a"}), (("a", "x"), (), {"a"}), (("a", "x"), ("admin",), {"a", "x"}), (("a", "y"),
    ("auditor",), {"a"}),
])  # fmt: skip
def test_a_grant_is_what_rule_client_and_request_have_in_common(
    requested: tuple[str, ...], roles: tuple[str, ...], granted: set[str]
) -> None:
    assert grant(requested, CLIENT, roles, ROLES) == granted


@pytest.mark.parametrize("requested", [("z",), ("a", "z"), ("x",), ("A",), ("a b",)])
def test_a_scope_that_cannot_be_had_is_the_field_s_fault(requested: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        grant(requested, CLIENT, (), ROLES)
    assert caught.value.violations[0].field == "scopes"
