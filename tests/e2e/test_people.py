"""Profiles, roles and status, and what they do to sessions."""

import asyncio
import time

import pyotp

from tests.e2e.conftest import Person, RunningMesh, eventually, sign_in_again, sign_up
from tests.kit.protocols import Client


async def test_people_read_and_change_their_own_profile(client: Client, person: Person) -> None:
    mine = await client.ok("UserService/GetUser", {"name": "users/me"}, person.token)
    assert (mine["name"], mine["email"], mine["displayName"]) == (person.name, person.email, "Ada")
    update = {"user": {"name": "users/me", "displayName": "Ada L.", "etag": mine["etag"]}, "updateMask": "displayName"}
    changed = await client.ok("UserService/UpdateUser", update, person.token)
    assert changed["displayName"] == "Ada L."
    stale = await client.call("UserService/UpdateUser", update, person.token)
    assert stale.outcome == ("ABORTED", "ETAG_MISMATCH")
    # Output-only fields say nothing, in a mask or without one.
    for mask in ({"updateMask": "roles,email"}, {}):
        request = {"user": {"name": "users/me", "roles": ["admin"], "email": "other@example.com"}} | mask
        assert await client.ok("UserService/UpdateUser", request, person.token) == changed


async def test_nobody_sees_anybody_else(mesh: RunningMesh, client: Client, person: Person) -> None:
    other = await sign_up(mesh, mesh.clients["grpc"])
    for name, request in (
        ("UserService/GetUser", {"name": other.name}),
        ("TokenService/ListSessions", {"parent": other.name}),
        ("UserService/ListUsers", {}),
        ("UserService/DisableUser", {"name": other.name}),
    ):
        answer = await client.call(name, request, person.token)
        assert answer.outcome == ("PERMISSION_DENIED", "SCOPE_MISSING")


async def test_an_administrator_sees_everybody(client: Client, person: Person, administrator: Person) -> None:
    assert (await client.ok("UserService/GetUser", {"name": person.name}, administrator.token))["email"] == person.email
    found = await client.ok("UserService/ListUsers", {"email": person.email}, administrator.token)
    assert [user["name"] for user in found["users"]] == [person.name]


async def test_disabling_a_user_ends_sessions_and_sign_in_at_once(
    mesh: RunningMesh, client: Client, administrator: Person
) -> None:
    person = await sign_up(mesh, client)
    await client.ok("UserService/DisableUser", {"name": person.name}, administrator.token)

    async def token_refused() -> bool:
        return (await client.call("UserService/GetUser", {"name": "users/me"}, person.token)).outcome == (
            "UNAUTHENTICATED",
            "TOKEN_REVOKED",
        )

    async def sign_in_refused() -> bool:
        answer = await client.call(
            "AuthService/SignIn", {"email": person.email, "password": person.password, "clientId": "demo"}
        )
        return answer.outcome == ("UNAUTHENTICATED", "CREDENTIALS_INVALID")

    await eventually(token_refused, within=2)
    await eventually(sign_in_refused, within=2)
    assert (await client.call("TokenService/RefreshToken", person.refresh)).outcome == (
        "UNAUTHENTICATED",
        "REFRESH_INVALID",
    )

    await client.ok("UserService/EnableUser", {"name": person.name}, administrator.token)

    async def signed_in() -> bool:
        request = {"email": person.email, "password": person.password, "clientId": "demo"}
        return (await client.call("AuthService/SignIn", request)).status == "OK"

    await eventually(signed_in)


async def test_a_role_comes_with_the_next_refresh(mesh: RunningMesh, client: Client, administrator: Person) -> None:
    person = await sign_up(mesh, client)
    await client.ok("UserService/SetRoles", {"name": person.name, "roles": ["admin"]}, administrator.token)

    async def old_token_refused() -> bool:
        return (await client.call("UserService/GetUser", {"name": "users/me"}, person.token)).reason == "TOKEN_REVOKED"

    await eventually(old_token_refused, within=2)
    person.tokens = await client.ok("TokenService/RefreshToken", person.refresh)
    assert person.claims["roles"] == ["admin"]
    await client.ok("UserService/SetRoles", {"name": person.name, "roles": []}, administrator.token)


async def test_an_unknown_role_is_refused_by_name(client: Client, person: Person, administrator: Person) -> None:
    answer = await client.call("UserService/SetRoles", {"name": person.name, "roles": ["emperor"]}, administrator.token)
    assert answer.outcome == ("INVALID_ARGUMENT", "FIELD_INVALID")
    assert answer.fields == ("roles",)


async def test_sessions_are_listed_and_ended_one_by_one(mesh: RunningMesh, client: Client) -> None:
    person = await sign_up(mesh, client)
    first = person.tokens
    await sign_in_again(client, person)
    sessions = (await client.ok("TokenService/ListSessions", {"parent": "users/me"}, person.token))["sessions"]
    assert [session["name"] for session in sessions if session.get("current")] == [person.tokens["session"]]
    assert {session["name"] for session in sessions} == {first["session"], person.tokens["session"]}
    assert all(session["address"] for session in sessions)
    await client.ok("TokenService/RevokeSession", {"name": first["session"]}, person.token)

    async def ended() -> bool:
        return (
            await client.call("UserService/GetUser", {"name": "users/me"}, first["accessToken"])
        ).reason == "TOKEN_REVOKED"

    await eventually(ended, within=2)
    await client.ok("UserService/GetUser", {"name": "users/me"}, person.token)


async def test_a_lost_answer_to_a_refresh_is_given_again_and_a_thief_ends_the_session(
    mesh: RunningMesh, client: Client
) -> None:
    person = await sign_up(mesh, client)
    grandparent = person.refresh
    first, second = await asyncio.gather(*(client.ok("TokenService/RefreshToken", grandparent) for _ in range(2)))
    assert first["refreshToken"] == second["refreshToken"]
    assert first["expireTime"] == second["expireTime"]
    person.tokens = first
    person.tokens = await client.ok("TokenService/RefreshToken", person.refresh)

    stolen = await client.call("TokenService/RefreshToken", grandparent)
    assert stolen.outcome == ("UNAUTHENTICATED", "REFRESH_REUSED")
    assert (await client.call("TokenService/RefreshToken", person.refresh)).outcome == (
        "UNAUTHENTICATED",
        "REFRESH_INVALID",
    )

    async def ended() -> bool:
        return (await client.call("UserService/GetUser", {"name": "users/me"}, person.token)).reason == "TOKEN_REVOKED"

    await eventually(ended, within=2)


async def test_another_installation_cannot_use_a_refresh_token_and_does_no_harm(client: Client, person: Person) -> None:
    thief = person.refresh | {"device": {"instanceId": "00000000-0000-4000-8000-000000000000"}}
    assert (await client.call("TokenService/RefreshToken", thief)).outcome == ("UNAUTHENTICATED", "REFRESH_INVALID")
    await client.ok("TokenService/RefreshToken", person.refresh)


async def test_more_scopes_than_the_session_has_are_not_given(mesh: RunningMesh, client: Client) -> None:
    person = await sign_up(mesh, client, sign_in=False)
    await sign_in_again(client, person, scopes=["user:read"])
    answer = await client.call("TokenService/RefreshToken", person.refresh | {"scopes": ["resource:read"]})
    assert answer.outcome == ("PERMISSION_DENIED", "SCOPE_MISSING")
    missing = await client.call("ResourceService/ListResources", {}, person.token)
    assert missing.outcome == ("PERMISSION_DENIED", "SCOPE_MISSING")


async def test_a_wrong_password_and_an_unknown_address_are_the_same(client: Client, person: Person) -> None:
    answers = [
        await client.call("AuthService/SignIn", {"email": email, "password": "wrong horse battery", "clientId": "demo"})
        for email in (person.email, f"nobody-{person.email}")
    ]
    assert {answer.outcome for answer in answers} == {("UNAUTHENTICATED", "CREDENTIALS_INVALID")}
    assert answers[0].message == answers[1].message


async def test_what_is_wrong_with_a_sign_in_tells_nothing_of_the_password(
    mesh: RunningMesh, client: Client, person: Person
) -> None:
    await sign_in_again(client, person)
    for wrong in ({"clientId": "nobody"}, {"scopes": ["nonsense"]}):
        answers = [
            await client.call(
                "AuthService/SignIn", {"email": person.email, "password": password, "clientId": "demo"} | wrong
            )
            for password in (person.password, "wrong horse battery")
        ]
        assert {answer.outcome for answer in answers} == {("INVALID_ARGUMENT", "FIELD_INVALID")}
        assert answers[0].message == answers[1].message
    assert {message["kind"] for message in await mesh.inbox(person.email)} == {"verify_email"}
    # What only this person can't have is said behind the right password, and the person hears of it.
    request = {"email": person.email, "password": person.password, "clientId": "demo", "scopes": ["admin:users"]}
    assert (await client.call("AuthService/SignIn", request)).outcome == ("INVALID_ARGUMENT", "FIELD_INVALID")

    async def told() -> bool:
        return "sign_in_stopped" in {message["kind"] for message in await mesh.inbox(person.email)}

    await eventually(told)


async def test_a_stranger_who_signs_up_with_the_same_address_is_not_in_the_way(
    mesh: RunningMesh, client: Client
) -> None:
    person = await sign_up(mesh, client, verify=False)
    stranger = {"email": person.email, "password": "mallory was here first", "displayName": "Mallory"}
    for _ in range(2):
        await client.ok("AuthService/SignUp", stranger)

    async def contested() -> bool:
        return len([message for message in await mesh.inbox(person.email) if len(message["code"]) == 16]) == 2

    await eventually(contested)
    code = await mesh.code(person.email)
    for request, outcome in (
        ({"code": code}, ("INVALID_ARGUMENT", "FIELD_INVALID")),
        ({"code": code, "password": "neither of them"}, ("INVALID_ARGUMENT", "CODE_INVALID")),
        ({"code": code, "password": person.password}, ("OK", "")),
    ):
        assert (await client.call("AuthService/VerifyEmail", {"email": person.email} | request)).outcome == outcome
    await sign_in_again(client, person)


async def test_introspection_needs_its_scope_and_tells_good_from_bad(
    client: Client, person: Person, administrator: Person
) -> None:
    denied = await client.call("TokenService/IntrospectToken", {"token": person.token}, person.token)
    assert denied.outcome == ("PERMISSION_DENIED", "SCOPE_MISSING")
    answer = await client.call("TokenService/IntrospectToken", {"token": person.token}, administrator.token)
    assert answer.status == "OK"


async def test_a_session_goes_on_when_its_person_is_asked_again(mesh: RunningMesh) -> None:
    client = mesh.clients["grpc"]
    person = await sign_up(mesh, client)
    before = person.claims
    challenge = await client.ok("AuthService/BeginReauthentication", {}, person.token)
    assert challenge["methods"] == ["password"]
    wrong = {"challenge": challenge["challenge"], "password": "wrong"}
    refused = await client.call("AuthService/FinishReauthentication", wrong, person.token)
    assert (refused.outcome, refused.fields) == (("INVALID_ARGUMENT", "FIELD_INVALID"), ("password",))
    uri = (await client.ok("AuthService/EnrollTotp", {}, person.token))["otpauthUri"]
    app, now = pyotp.parse_uri(uri), time.time()
    assert isinstance(app, pyotp.TOTP)
    await client.ok("AuthService/ConfirmTotp", {"totp": app.at(int(now))}, person.token)
    challenge = await client.ok("AuthService/BeginReauthentication", {}, person.token)
    assert challenge["methods"] == ["totp"]
    # A code works once; the next one is taken a little early.
    answer = {"challenge": challenge["challenge"], "totp": app.at(int(now) + 30)}
    await client.ok("AuthService/FinishReauthentication", answer, person.token)
    person.tokens = await client.ok("TokenService/RefreshToken", person.refresh)
    after = person.claims
    assert (after["sid"], before["amr"], after["amr"]) == (before["sid"], ["pwd"], ["pwd", "otp"])
    assert after["auth_time"] >= before["auth_time"]
