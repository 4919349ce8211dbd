"""Access rules against callers."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from authmesh.options.v1 import access_pb2
from authmesh.token.v1 import token_service_pb2
from authmesh.user.v1 import user_service_pb2
from google.protobuf.duration_pb2 import Duration

from mesh.contract import Contract
from mesh.errors import InvalidArgument, MeshError, PermissionDenied, Reason, Unauthenticated
from mesh.tokens.claims import Claims
from mesh.tokens.policy import DEFAULT_STALENESS_SECONDS, Policy
from tests.kit.tokens import SUBJECT

OTHER = "0190a1b2-c3d4-7000-8000-00000000000f"
NOW = 10_000
CONTRACT = Contract.load()


def claims(*scopes: str, roles: tuple[str, ...] = (), auth_time: int = NOW - 5) -> Claims:
    return Claims(
        SUBJECT, "s", "demo", frozenset(scopes), frozenset(roles), "t", NOW - 5, NOW + 600, auth_time, ("pwd",), "k"
    )


def call(access: access_pb2.AccessRule | str, request: Any = None, caller: str | None = None) -> Any:
    """A call of a method with this rule, or of a real method by its path."""
    rpc = CONTRACT.rpcs[access] if isinstance(access, str) else SimpleNamespace(path=f"/{id(access)}", access=access)
    return SimpleNamespace(rpc=rpc, request=request, caller=caller)


def internal(*callers: str) -> access_pb2.AccessRule:
    return access_pb2.AccessRule(internal=access_pb2.Internal(callers=callers))


def authenticated(**demands: Any) -> access_pb2.AccessRule:
    return access_pb2.AccessRule(authenticated=access_pb2.Authenticated(**demands))


@pytest.fixture
def policy() -> Policy:
    return Policy(clock=lambda: NOW)


def denial(policy: Policy, *args: Any) -> Reason:
    with pytest.raises(MeshError) as caught:
        policy.admit_bearer(*args)
    return caught.value.reason


@pytest.mark.parametrize(("callers", "caller", "admitted"), [
    (("auth",), "auth", True), (("auth",), "user", False), (("auth",), None, False), (("auth",), "", False),
    (("auth",), "edge", False),
    (("*",), "resource", True), (("*",), "edge", False), (("*",), None, False), (("*",), "", False),
    ((), "auth", False), (("edge",), "edge", True),
    (("auth", "user"), "user", True), (("auth",), "auth2", False), (("auth",), "*", False),
])  # fmt: skip
def test_internal_methods_admit_the_nodes_they_name(
    policy: Policy, callers: tuple[str, ...], caller: str | None, admitted: bool
) -> None:
    asked = call(internal(*callers), caller=caller)
    if admitted:
        policy.admit_node(asked)
        return
    with pytest.raises(PermissionDenied) as caught:
        policy.admit_node(asked)
    assert caught.value.reason is Reason.CALLER_NOT_ALLOWED


def test_all_scopes_are_demanded_and_none_by_prefix(policy: Policy) -> None:
    asked = call(authenticated(scopes=["resource:read", "resource:write"]))
    policy.admit_bearer(asked, claims("resource:read", "resource:write", "more"))
    for scopes in (
        (),
        ("resource:read",),
        ("resource",),
        ("resource:*",),
        ("resource:read:x", "resource:write:x"),
        ("RESOURCE:READ", "RESOURCE:WRITE"),
    ):
        assert denial(policy, asked, claims(*scopes)) is Reason.SCOPE_MISSING


def test_one_role_is_demanded(policy: Policy) -> None:
    asked = call(authenticated(roles=["admin", "auditor"]))
    policy.admit_bearer(asked, claims(roles=("auditor",)))
    assert denial(policy, asked, claims(roles=("user",))) is Reason.ROLE_MISSING


def test_a_sign_in_that_is_too_old_wants_a_new_one(policy: Policy) -> None:
    asked = call(authenticated(recent_sign_in=Duration(seconds=300)))
    policy.admit_bearer(asked, claims(auth_time=NOW - 300))
    assert denial(policy, asked, claims(auth_time=NOW - 301)) is Reason.STEP_UP_REQUIRED
    assert denial(policy, asked, claims(auth_time=0)) is Reason.STEP_UP_REQUIRED


def test_the_part_of_a_second_that_the_claim_lacks_makes_no_sign_in_older() -> None:
    # `auth_time` of a sign-in at NOW - 299.1 is NOW - 300.
    late = Policy(clock=lambda: NOW + 0.9)
    late.admit_bearer(call(authenticated(recent_sign_in=Duration(seconds=300))), claims(auth_time=NOW - 300))


def test_a_bearer_token_is_not_good_where_a_bound_one_is_demanded(policy: Policy) -> None:
    with pytest.raises(Unauthenticated):
        policy.admit_bearer(call(authenticated(sender_bound=True)), claims())


def test_the_staleness_bound_is_thirty_seconds_unless_the_method_says_otherwise(policy: Policy) -> None:
    assert policy.token_rule(call(authenticated()).rpc).max_staleness == DEFAULT_STALENESS_SECONDS == 30
    assert policy.token_rule(call(authenticated(max_staleness=Duration(seconds=5))).rpc).max_staleness == 5
    assert policy.token_rule(call(authenticated(max_staleness=Duration())).rpc).max_staleness == 0


LIST = "/authmesh.token.v1.TokenService/ListSessions"
OWN, ADMIN = ("session:manage",), ("admin:users",)


@pytest.mark.parametrize(("parent", "scopes", "expected"), [
    ("users/me", OWN, None), (f"users/{SUBJECT}", OWN, None), (f"users/{SUBJECT.upper()}", OWN, None),
    (f"users/{OTHER}", ADMIN, None),
    (f"users/{OTHER}", OWN, Reason.SCOPE_MISSING), (f"users/{OTHER}", (), Reason.SCOPE_MISSING),
    ("users/me", ADMIN, Reason.SCOPE_MISSING),
    (f"users/{OTHER}/../{SUBJECT}", OWN, Reason.SCOPE_MISSING),
    ("", OWN, Reason.FIELD_INVALID), ("users/", OWN, Reason.FIELD_INVALID), ("users/me2", OWN, Reason.FIELD_INVALID),
    ("users/1", OWN, Reason.FIELD_INVALID),
    (f"USERS/{SUBJECT}", OWN, Reason.FIELD_INVALID), (f" users/{SUBJECT}", OWN, Reason.FIELD_INVALID),
    (f"users/{SUBJECT}x", OWN, Reason.FIELD_INVALID),
    ("users/nonsense", ADMIN, Reason.FIELD_INVALID), ("users/nonsense", (), Reason.SCOPE_MISSING),
])  # fmt: skip
def test_methods_about_a_user_ask_strangers_for_more(
    policy: Policy, parent: str, scopes: tuple[str, ...], expected: Reason | None
) -> None:
    asked = call(LIST, token_service_pb2.ListSessionsRequest(parent=parent))
    if expected is None:
        policy.admit_bearer(asked, claims(*scopes))
    else:
        assert denial(policy, asked, claims(*scopes)) is expected


def test_the_field_may_be_nested(policy: Policy) -> None:
    path = "/authmesh.user.v1.UserService/UpdateUser"
    own = user_service_pb2.UpdateUserRequest(user=user_service_pb2.User(name="users/me"))
    policy.admit_bearer(call(path, own), claims("user:write"))
    other = user_service_pb2.UpdateUserRequest(user=user_service_pb2.User(name=f"users/{OTHER}"))
    assert denial(policy, call(path, other), claims("user:write")) is Reason.SCOPE_MISSING
    with pytest.raises(InvalidArgument) as caught:
        policy.admit_bearer(call(path, user_service_pb2.UpdateUserRequest()), claims("user:write"))
    assert caught.value.violations[0].field == "user.name"


def test_every_field_that_a_rule_names_exists() -> None:
    for rpc in CONTRACT.rpcs.values():
        if field := rpc.access.authenticated.others.field:
            value: Any = CONTRACT.message_type(rpc.input_type)()
            for name in field.split("."):
                value = getattr(value, name)
            assert value == ""


def test_a_method_may_demand_how_the_person_signed_in(policy: Policy) -> None:
    asked = call(authenticated(methods=["otp", "hwk"], recent_sign_in=Duration(seconds=300)))
    with pytest.raises(PermissionDenied) as refusal:
        policy.admit_bearer(asked, claims())
    assert refusal.value.reason is Reason.STEP_UP_REQUIRED
    assert refusal.value.facts == {"methods": "hwk otp", "max_age": "300"}
    policy.admit_bearer(asked, replace(claims(), amr=("pwd", "otp")))
    assert denial(policy, asked, replace(claims(auth_time=NOW - 301), amr=("pwd", "otp"))) is Reason.STEP_UP_REQUIRED


def test_a_role_may_need_a_second_factor() -> None:
    strict = Policy(clock=lambda: NOW, mfa_roles=frozenset({"admin"}))
    by_scope, by_role = call(authenticated(scopes=["admin:users"])), call(authenticated(roles=["admin"]))
    alone, both = claims(roles=("admin",)), replace(claims("admin:users", roles=("admin",)), amr=("pwd", "otp"))
    for asked in (by_scope, by_role):
        assert denial(strict, asked, alone) is Reason.STEP_UP_REQUIRED
        strict.admit_bearer(asked, both)
    with pytest.raises(PermissionDenied) as refusal:
        strict.admit_bearer(by_role, alone)
    assert "otp" in refusal.value.facts["methods"].split()
    # Others need none, and learn what they lack.
    assert denial(strict, by_scope, claims()) is Reason.SCOPE_MISSING
    assert denial(strict, by_role, claims(roles=("auditor",))) is Reason.ROLE_MISSING
    strict.admit_bearer(call(authenticated(scopes=["user:read"])), claims("user:read", roles=("admin",)))
