from authmesh.options.v1 import access_pb2
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2

from mesh.contract import CHANGING, READING, STREAMS, Contract, HttpBinding, Rate
from mesh.model.event_types import EVENT_TYPES

CONTRACT = Contract.load()


def test_every_rpc_says_who_may_call_it() -> None:
    assert CONTRACT.rpcs
    assert all(rpc.access.WhichOneof("kind") for rpc in CONTRACT.rpcs.values())


def test_public_and_internal_methods_live_in_separate_services() -> None:
    for rpcs in CONTRACT.services.values():
        assert len({rpc.access.HasField("internal") for rpc in rpcs}) == 1


def test_everything_for_clients_has_a_json_form_and_nothing_internal_has_one() -> None:
    for rpc in CONTRACT.rpcs.values():
        assert bool(rpc.http) is not rpc.access.HasField("internal"), rpc.path


def test_http_bindings_carry_method_template_and_body() -> None:
    update = CONTRACT.rpcs["/authmesh.user.v1.UserService/UpdateUser"]
    assert update.http == (HttpBinding("PATCH", "/v1/{user.name=users/*}", "user"),)
    discovery = CONTRACT.rpcs["/authmesh.token.v1.TokenService/GetDiscovery"]
    assert discovery.http == (HttpBinding("GET", "/.well-known/oauth-authorization-server", ""),)


def test_no_method_is_served_under_the_name_of_an_openid_document() -> None:
    templates = {binding.template for rpc in CONTRACT.rpcs.values() for binding in rpc.http}
    assert not [template for template in templates if "openid" in template]


def test_every_client_id_that_a_caller_sends_has_the_pattern_of_one() -> None:
    files = descriptor_pb2.FileDescriptorSet.FromString(CONTRACT.descriptors).file
    patterns = {
        f"{message.name}.{field.name}": field.options.Extensions[validate_pb2.field].string.pattern
        for file in files
        for message in file.message_type
        for field in message.field
        if message.name.endswith("Request") and field.name == "client_id"
    }
    assert patterns == dict.fromkeys(
        [
            "SignInRequest.client_id",
            "BeginSignInRequest.client_id",
            "ExchangeTokenRequest.client_id",
            "RefreshTokenRequest.client_id",
            "CheckSignInRequest.client_id",
            "IssueTokensRequest.client_id",
        ],
        "^[a-z][a-z0-9-]{0,62}$",
    )


def test_methods_that_spend_something_are_never_retried() -> None:
    for path in (
        "/authmesh.token.v1.TokenService/RefreshToken",
        "/authmesh.auth.v1.AuthService/SignIn",
        "/authmesh.token.v1.TokenIssuer/IssueTokens",
    ):
        assert not CONTRACT.rpcs[path].idempotent
    assert CONTRACT.rpcs["/authmesh.user.v1.UserService/GetUser"].idempotent


def test_every_event_that_a_method_declares_is_in_the_catalogue() -> None:
    for rpc in CONTRACT.rpcs.values():
        assert set(rpc.audit) <= EVENT_TYPES, rpc.path


def test_a_method_that_changes_state_says_what_it_leaves_in_the_audit_trail() -> None:
    assert [rpc.path for rpc in CONTRACT.rpcs.values() if rpc.changes_state and not rpc.audit] == []
    assert any(not rpc.changes_state for rpc in CONTRACT.rpcs.values())


def test_what_administrators_change_they_change_by_fresh_knowledge_of_revocations() -> None:
    changes = [
        rpc
        for rpc in CONTRACT.rpcs.values()
        if rpc.changes_state and any(s.startswith("admin:") for s in rpc.access.authenticated.scopes)
    ]
    assert len(changes) > 5
    assert [rpc.path for rpc in changes if not 0 < rpc.access.authenticated.max_staleness.seconds <= 5] == []


def test_the_catalogue_speaks_in_dotted_names() -> None:
    assert "token.reuse_detected" in EVENT_TYPES
    assert "auth.sign_in_failed" in EVENT_TYPES
    assert all("." in name and "unspecified" not in name for name in EVENT_TYPES)


def test_messages_can_be_made_without_knowing_their_module() -> None:
    user = CONTRACT.message_type("authmesh.user.v1.User")(name="users/me")
    assert user.SerializeToString() == b"\n\x08users/me"


def test_a_method_without_a_rule_has_no_kind() -> None:
    assert access_pb2.AccessRule().WhichOneof("kind") is None
    assert descriptor_pb2.MethodOptions().Extensions[access_pb2.access].WhichOneof("kind") is None


def test_a_method_with_a_token_is_under_a_limit_without_saying_so_and_no_other_is() -> None:
    assert all((rpc.rate is not None) is (rpc.kind == "authenticated") for rpc in CONTRACT.rpcs.values())
    assert CONTRACT.rpcs["/authmesh.user.v1.UserService/GetUser"].rate == READING
    assert CONTRACT.rpcs["/authmesh.user.v1.UserService/UpdateUser"].rate == CHANGING
    assert CONTRACT.rpcs["/authmesh.resource.v1.ResourceService/WatchResources"].streams == 20
    assert CONTRACT.rpcs["/authmesh.audit.v1.AuditService/WatchEvents"].streams == STREAMS


def test_a_rate_is_never_nothing() -> None:
    assert Rate(60, 30).times(0.001) == Rate(1, 30)
    assert str(Rate(60, 30).times(2)) == "120 times in 30 s"
