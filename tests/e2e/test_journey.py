"""What the product is for, from sign-up to the audit trail, in each protocol."""

import gzip
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyotp
import pytest

from tests.conftest import held
from tests.e2e.conftest import Person, RunningMesh, eventually, running, sign_in_again, sign_up
from tests.kit.protocols import Client
from tests.kit.trail_objects import audit_events


@pytest.fixture(scope="module", params=["local", pytest.param("cognito", marks=pytest.mark.slow)])
async def mesh(
    request: pytest.FixtureRequest, mesh: RunningMesh, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningMesh]:
    """The mesh with each identity provider."""
    if request.param == "local":
        yield mesh
        return
    async with held(running(tmp_path_factory.mktemp("e2e") / "mesh", IDENTITY="cognito")) as started:
        yield started


async def test_from_sign_up_to_the_audit_trail(mesh: RunningMesh, client: Client) -> None:
    person = await sign_up(mesh, client, verify=False)
    early = await client.call(
        "AuthService/SignIn", {"email": person.email, "password": person.password, "clientId": "demo"}
    )
    # Cognito says it before it looks at the password, and so it is told to no one but the owner of the address.
    assert early.outcome in {("FAILED_PRECONDITION", "EMAIL_UNVERIFIED"), ("UNAUTHENTICATED", "CREDENTIALS_INVALID")}
    await client.ok("AuthService/VerifyEmail", {"email": person.email, "code": await mesh.code(person.email)})
    await sign_in_again(client, person)

    made = await client.ok(
        "ResourceService/CreateResource", {"resource": {"displayName": "Notes", "content": "hello"}}, person.token
    )
    read = await client.ok("ResourceService/GetResource", {"name": made["name"]}, person.token)
    assert (read["content"], read["owner"], read["role"]) == ("hello", person.name, "ROLE_OWNER")

    first = person.tokens
    person.tokens = await client.ok("TokenService/RefreshToken", person.refresh)
    assert person.tokens["refreshToken"] != first["refreshToken"]
    assert person.tokens["session"] == first["session"]
    await client.ok("ResourceService/GetResource", {"name": made["name"]}, person.token)

    await client.ok("TokenService/RevokeToken", {"token": person.tokens["refreshToken"]})
    await refused_everywhere(mesh, person)
    again = await client.call("TokenService/RefreshToken", person.refresh)
    assert again.outcome == ("UNAUTHENTICATED", "REFRESH_INVALID")

    async def recorded() -> bool:
        events = [
            event
            for event in await audit_events(mesh)
            if event.get("subject") == person.name or event.get("target") == made["name"]
        ]
        return {
            "auth.signed_up",
            "auth.email_verified",
            "auth.signed_in",
            "token.issued",
            "user.created",
            "resource.created",
            "token.refreshed",
            "token.revoked",
        } <= {event["type"] for event in events}

    await eventually(recorded)


async def test_a_forgotten_password_is_replaced_and_every_session_ends(mesh: RunningMesh, client: Client) -> None:
    person = await sign_up(mesh, client)
    await client.ok("AuthService/RequestPasswordReset", {"email": person.email})

    async def sent() -> str:
        messages = [message for message in await mesh.inbox(person.email) if message["kind"] == "reset_password"]
        return str(messages[-1]["code"]) if messages else ""

    request = {"email": person.email, "code": await eventually(sent), "newPassword": "a harbour without ships"}
    weak = await client.call("AuthService/ResetPassword", request | {"newPassword": "password123"})
    assert (weak.outcome, weak.fields) == (("INVALID_ARGUMENT", "PASSWORD_INVALID"), ("new_password",))
    await client.ok("AuthService/ResetPassword", request)
    await refused_everywhere(mesh, person)
    again = await client.call("AuthService/ResetPassword", request)
    assert again.outcome == ("INVALID_ARGUMENT", "CODE_INVALID")
    person.password = "a harbour without ships"
    await sign_in_again(client, person)
    await client.ok("UserService/GetUser", {"name": "users/me"}, person.token)


async def test_a_change_of_the_password_ends_the_other_sessions(mesh: RunningMesh, client: Client) -> None:
    person = await sign_up(mesh, client)
    other = replace(person)
    await sign_in_again(client, other, device={"instanceId": str(uuid.uuid4())})
    request = {"currentPassword": "wrong", "newPassword": "the lighthouse at noon"}
    wrong = await client.call("AuthService/ChangePassword", request, person.token)
    assert (wrong.outcome, wrong.fields) == (("INVALID_ARGUMENT", "FIELD_INVALID"), ("current_password",))
    await client.ok("AuthService/ChangePassword", request | {"currentPassword": person.password}, person.token)
    await refused_everywhere(mesh, other)
    await client.ok("UserService/GetUser", {"name": "users/me"}, person.token)
    person.tokens = await client.ok("TokenService/RefreshToken", person.refresh)
    await client.ok("UserService/GetUser", {"name": "users/me"}, person.token)


async def test_a_second_factor_is_set_up_asked_for_and_reset(mesh: RunningMesh, client: Client) -> None:
    person = await sign_up(mesh, client)
    enrollment = await client.ok("AuthService/EnrollTotp", {}, person.token)
    assert enrollment["qrSvg"].startswith("<svg")
    app = pyotp.parse_uri(enrollment["otpauthUri"])
    assert isinstance(app, pyotp.TOTP)
    wrong = await client.call("AuthService/ConfirmTotp", {"totp": "0000 00"}, person.token)
    assert (wrong.outcome, wrong.fields) == (("INVALID_ARGUMENT", "CODE_INVALID"), ("totp",))
    # The code of the step before is taken, too, so that the next one is there already.
    now = datetime.now(UTC)
    codes = (await client.ok("AuthService/ConfirmTotp", {"totp": app.at(now)}, person.token))["recoveryCodes"]
    request = {"email": person.email, "password": person.password, "clientId": "demo"}
    challenge = (await client.ok("AuthService/SignIn", request))["mfaChallenge"]
    assert challenge["methods"] == ["totp", "recovery_code"]
    answer = {"challenge": challenge["challenge"], "totp": app.at(now)}
    used = await client.call("AuthService/VerifyMfa", answer)
    assert (used.outcome, used.fields) == (("INVALID_ARGUMENT", "CODE_INVALID"), ("totp",))
    person.tokens = await client.ok("AuthService/VerifyMfa", answer | {"totp": app.at(now + timedelta(seconds=30))})
    assert person.claims["amr"] == ["pwd", "otp"]
    challenge = (await client.ok("AuthService/SignIn", request))["mfaChallenge"]
    answer = {"challenge": challenge["challenge"], "recoveryCode": codes[0].lower()}
    person.tokens = await client.ok("AuthService/VerifyMfa", answer)
    await client.ok("UserService/GetUser", {"name": "users/me"}, person.token)
    void = await client.call("AuthService/VerifyMfa", answer | {"recoveryCode": codes[1]})
    assert (void.outcome, void.fields) == (("INVALID_ARGUMENT", "CODE_INVALID"), ("challenge",))
    status, output, errors = await mesh.authmesh("admin", "reset-mfa", person.email)
    assert (status, errors) == (0, ""), output

    async def without() -> bool:
        return "tokens" in await client.ok("AuthService/SignIn", request)

    await eventually(without)


async def refused_everywhere(mesh: RunningMesh, person: Person) -> None:
    """The token is refused as revoked by a process of each service, soon, in each protocol."""
    for client in mesh.clients.values():
        for name, request in (
            ("ResourceService/ListResources", {}),
            ("UserService/GetUser", {"name": "users/me"}),
            ("TokenService/ListSessions", {"parent": "users/me"}),
        ):

            async def revoked(client: Client = client, name: str = name, request: dict[str, Any] = request) -> bool:
                return (await client.call(name, request, person.token)).outcome == ("UNAUTHENTICATED", "TOKEN_REVOKED")

            await eventually(revoked, within=2)


async def test_events_of_a_source_are_contiguous_and_chained(mesh: RunningMesh, person: Person) -> None:
    async def gapless() -> bool:
        events = await audit_events(mesh)
        for source in ("auth", "token", "user"):
            numbers = sorted(int(event["sequence"]) for event in events if event["source"] == source)
            if not numbers or numbers != list(range(1, len(numbers) + 1)):
                return False
        return True

    await eventually(gapless)


async def test_codes_are_nowhere_but_in_the_message(mesh: RunningMesh) -> None:
    person = await sign_up(mesh, mesh.clients["grpc"])
    code = await mesh.code(person.email)

    async def verified() -> bool:
        return any(
            event["type"] == "auth.email_verified" and event["subject"] == person.name
            for event in await audit_events(mesh)
        )

    await eventually(verified)
    assert code not in json.dumps(await audit_events(mesh))
    for log in (mesh.home / "logs").iterdir():
        content = log.read_bytes()
        text = gzip.decompress(content) if log.suffix == ".gz" else content
        assert code.encode() not in text, log.name
        assert person.password.encode() not in text, log.name
        assert person.token.encode() not in text, log.name
        assert str(person.tokens["refreshToken"]).encode() not in text, log.name
