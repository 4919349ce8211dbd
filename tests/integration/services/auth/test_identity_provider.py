"""One suite over both identity providers: our own, and a user pool of the emulator."""

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyotp
import pytest
from authmesh.auth.v1.auth_service_pb2 import MfaChallenge
from authmesh.token.v1 import token_set_pb2

from mesh.aws import open_client
from mesh.errors import (
    FailedPrecondition,
    InvalidArgument,
    MeshError,
    NotFound,
    Reason,
    Unauthenticated,
    Unavailable,
)
from mesh.local.components import aws_emulator
from mesh.storage.database import Database
from services.auth.cognito.parts import open_provider, pool_keys
from services.auth.settings import AuthSettings
from services.auth.sign_in import Attempt, MfaAnswer
from services.auth.sign_out import SignOut
from services.auth.sign_up import Application
from tests.conftest import held
from tests.integration.services.auth.conftest import HOME, PASSWORD, Auth, app_of, code_refused, refused
from tests.kit import user_pool

OTHER = "an entirely different phrase"


@dataclass
class Emulated:
    """Cognito, and the letters that it has sent."""

    server: aws_emulator.AwsEmulator
    letters: Path
    pool: user_pool.Pool
    api: Any


@pytest.fixture(scope="module")
async def emulated(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Emulated]:
    folder = tmp_path_factory.mktemp("cognito")
    running = aws_emulator.running(folder / "aws", services=("cognito-idp",), inbox=folder / "letters")
    patched = pytest.MonkeyPatch()
    async with held(running) as server:
        for name, value in server.environment.items():
            patched.setenv(name, value)

        class Place:
            aws_region, aws_endpoint_url = server.account.region, server.endpoint_url

        async with open_client("cognito-idp", Place) as api:
            yield Emulated(server, folder / "letters", await user_pool.make(api), api)
    patched.undo()


@dataclass
class Served:
    """Auth with one of them."""

    kind: str
    auth: Auth
    letters: Path | None
    api: Any = None
    pool: user_pool.Pool | None = None

    async def code(self, email: str) -> str:
        if self.letters is None:
            return await self.auth.newest_code(email)
        lines = [json.loads(line) for line in self.letters.read_text().splitlines()]
        return str([line["code"] for line in lines if line["email"] == email][-1])

    async def sign_up(self, email: str, password: str = PASSWORD) -> None:
        await self.auth.provider.sign_up(Application(email, password, "Ada", None), HOME)

    async def verified(self, email: str, password: str = PASSWORD) -> None:
        await self.sign_up(email, password)
        await self.auth.provider.verify_email(email, await self.code(email), HOME)

    async def begin(self, email: str, password: str = PASSWORD) -> token_set_pb2.TokenSet | MfaChallenge:
        attempt = Attempt(email, password, "demo", token_set_pb2.Device(), ["user:read"], HOME, "test/1")
        return await self.auth.gate.sign_in(attempt)

    async def sign_in(self, email: str, password: str = PASSWORD) -> uuid.UUID:
        tokens = await self.begin(email, password)
        assert isinstance(tokens, token_set_pb2.TokenSet)
        return uuid.UUID(tokens.session.split("/")[1])

    async def answer(
        self, challenge: MfaChallenge, *, totp: str = "", new_password: str = ""
    ) -> token_set_pb2.TokenSet:
        answer = MfaAnswer(challenge.challenge, totp, "", HOME, "test/1", new_password)
        return await self.auth.gate.verify_mfa(answer)

    async def is_refused(self, email: str, password: str = PASSWORD) -> None:
        await refused(self.begin(email, password), Unauthenticated, Reason.CREDENTIALS_INVALID)


@pytest.fixture(params=["local", "cognito srp", pytest.param("cognito password", marks=pytest.mark.slow)])
async def served(
    request: pytest.FixtureRequest,
    open_database: Callable[[str], Awaitable[Database]],
    emulated: Emulated,
    tmp_path: Path,
) -> AsyncIterator[Served]:
    auth = Auth(await open_database("services.auth"))
    auth.use_hasher(auth.hasher, factor=1000)
    kind, _, flow = request.param.partition(" ")
    if kind == "local":
        yield Served(kind, auth, None)
        return
    secret = tmp_path / "client-secret"
    secret.write_text(emulated.pool.client_secret)
    secret.chmod(0o600)
    settings = AuthSettings.model_validate(
        {
            "node": "auth", "socket": "/s", "egress": "/e", "database_url": "postgresql:///x", "redis_url": "redis://x",
            "issuer": "https://issuer.test", "audience": "authmesh", "event_bus": "x", "messages_topic_arn": "arn:x",
            "aws_region": emulated.server.account.region, "aws_endpoint_url": emulated.server.endpoint_url,
            "identity_provider": "cognito", "cognito_user_pool_id": emulated.pool.id,
            "cognito_client_id": emulated.pool.client_id, "cognito_client_secret": str(secret),
            "cognito_auth_flow": flow,
        }
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(
            open_provider(
                settings,
                auth.work,
                pool_keys(settings),
                auth.policy,
                auth.denials,
                auth.level,
                auth.throttle,
                auth.turns,
                SignOut(auth.token.revoke, auth.factors),
            )
        )  # fmt: skip
        auth.use_provider(provider)
        yield Served(kind, auth, emulated.letters, emulated.api, emulated.pool)


@pytest.fixture
def email() -> str:
    return f"{uuid.uuid4()}@example.com"


async def test_signing_up_and_in(served: Served, email: str) -> None:
    await served.sign_up(email)
    await code_refused(served.auth.provider.verify_email(email, "00000000", HOME), "code")
    await served.auth.provider.verify_email(email, await served.code(email), HOME)
    user_id = await served.sign_in(email)
    assert await served.sign_in(email.upper()) == user_id
    (made,) = await served.auth.database.fetch("SELECT payload FROM outbox WHERE destination LIKE '%CreateUser'")
    assert str(user_id).encode() in made["payload"]
    assert b"Ada" in made["payload"]
    (order,) = served.auth.token.orders[:1]
    assert (order.subject, list(order.amr)) == (str(user_id), ["pwd"])
    assert [event.type for event in await served.auth.events("auth.signed_in")] == ["auth.signed_in"] * 2
    for event in ("auth.signed_up", "auth.email_verified"):
        assert [one.subject for one in await served.auth.events(event)] == [f"users/{user_id}"]


async def test_what_is_wrong_is_refused_alike(served: Served, email: str) -> None:
    await served.verified(email)
    await served.is_refused(email, OTHER)
    await served.is_refused(f"nobody-{email}")
    await served.is_refused(email, PASSWORD.upper())


async def test_signing_up_again_says_nothing(served: Served, email: str) -> None:
    await served.verified(email)
    await served.sign_in(email)
    await served.sign_up(email, OTHER)
    assert "sign_up_exists" in await served.auth.kinds(email)
    await served.sign_in(email)


async def test_another_code_is_sent_for_the_asking(served: Served, email: str) -> None:
    await served.sign_up(email)
    await served.auth.provider.resend_code(email, HOME)
    await served.auth.provider.resend_code(f"nobody-{email}", HOME)
    await served.auth.provider.verify_email(email, await served.code(email), HOME)
    await served.sign_in(email)


async def test_a_password_is_reset_by_a_code(served: Served, email: str) -> None:
    await served.verified(email)
    user_id = await served.sign_in(email)
    await served.auth.provider.request_reset(f"nobody-{email}", HOME)
    await served.auth.provider.request_reset(email, HOME)
    await code_refused(served.auth.provider.reset(email, "0" * 16, OTHER, HOME), "code")
    await served.auth.provider.reset(email, await served.code(email), OTHER, HOME)
    assert [order.subject for order in served.auth.token.revoked] == [str(user_id)]
    assert "password_reset" in await served.auth.kinds(email)
    await served.is_refused(email)
    assert await served.sign_in(email, OTHER) == user_id


async def test_a_password_is_changed_with_the_one_until_now(served: Served, email: str) -> None:
    await served.verified(email)
    user_id, session = await served.sign_in(email), uuid.uuid4()

    async def change(current: str, password: str) -> None:
        await served.auth.provider.change(user_id, current, password, session=session, client_id="demo", address=HOME)

    await refused(change(OTHER, OTHER), InvalidArgument, Reason.FIELD_INVALID, "current_password")
    await refused(change(PASSWORD, "short"), InvalidArgument, Reason.PASSWORD_INVALID, "new_password")
    await change(PASSWORD, OTHER)
    assert [(order.subject, order.keep_session) for order in served.auth.token.revoked] == [
        (str(user_id), str(session))
    ]
    await served.is_refused(email)
    await served.sign_in(email, OTHER)


async def test_passwords_that_are_too_weak_are_refused(served: Served, email: str) -> None:
    for password in ("short", "password123", email):
        await refused(served.sign_up(email, password), InvalidArgument, Reason.PASSWORD_INVALID, "password")


async def test_our_second_factor_is_asked_for_behind_either(served: Served, email: str) -> None:
    await served.verified(email)
    user_id, auth = await served.sign_in(email), served.auth
    app = app_of((await auth.mfa.enroll(user_id)).uri)
    await auth.mfa.confirm(user_id, uuid.uuid4(), app.at(auth.clock.now))
    challenge = await served.begin(email)
    assert isinstance(challenge, MfaChallenge)
    assert list(challenge.methods) == ["totp", "recovery_code"]
    auth.clock.pass_(seconds=30)
    answer = MfaAnswer(challenge.challenge, app.at(auth.clock.now), "", HOME, "test/1")
    assert (await auth.gate.verify_mfa(answer)).session.startswith(f"users/{user_id}/")
    await code_refused(auth.gate.verify_mfa(answer), "challenge")


async def test_someone_who_is_disabled_or_deleted_does_not_get_in(served: Served, email: str) -> None:
    await served.verified(email)
    user_id = await served.sign_in(email)
    await served.auth.credentials.set_status(user_id, disabled=True, version=1)
    await served.is_refused(email)
    await served.auth.credentials.set_status(user_id, disabled=False, version=2)
    await served.sign_in(email)
    for _ in range(2):
        await served.auth.credentials.delete(user_id)
    await served.is_refused(email)
    # The address is free again.
    await served.verified(email, OTHER)
    assert await served.sign_in(email, OTHER) != user_id


async def test_who_someone_is_can_be_asked_again(served: Served, email: str) -> None:
    await served.verified(email)
    user_id = await served.sign_in(email)
    async with served.auth.work.begin() as tx:
        account = await served.auth.gate._accounts.by_id(tx, user_id)
    assert account
    assert await served.auth.provider.is_password(account, PASSWORD)
    assert not await served.auth.provider.is_password(account, OTHER)


async def test_one_who_is_gone_changes_nothing(served: Served) -> None:
    gone: Awaitable[object] = served.auth.provider.change(
        uuid.uuid4(), PASSWORD, OTHER, session=uuid.uuid4(), client_id="demo", address=HOME
    )
    await refused(gone, NotFound, Reason.USER_NOT_FOUND)


cognito = pytest.mark.parametrize("served", ["cognito srp"], indirect=True)


@cognito
async def test_a_sign_up_that_waits_is_told_its_owner_and_nobody_else(served: Served, email: str) -> None:
    await served.sign_up(email)
    for password in (PASSWORD, OTHER):
        await served.is_refused(email, password)
    assert await served.auth.kinds(email) == ["sign_in_unverified"]


@cognito
async def test_the_pools_own_second_factor_is_passed_on(served: Served, email: str) -> None:
    await served.verified(email)
    user_id, pool = await served.sign_in(email), served.auth.provider._pool  # type: ignore[attr-defined]
    tokens = await pool.authenticate(email, PASSWORD)
    secret = (await served.api.associate_software_token(AccessToken=tokens.access_token))["SecretCode"]
    app = pyotp.TOTP(secret)
    await served.api.verify_software_token(AccessToken=tokens.access_token, UserCode=app.now())
    preference = {"Enabled": True, "PreferredMfa": True}
    await served.api.set_user_mfa_preference(AccessToken=tokens.access_token, SoftwareTokenMfaSettings=preference)
    challenge = await served.begin(email)
    assert isinstance(challenge, MfaChallenge)
    assert list(challenge.methods) == ["totp"]
    wrong = str((int(app.now()) + 1) % 10**6).zfill(6)
    await code_refused(served.answer(challenge, totp=wrong), "totp")
    assert (await served.answer(challenge, totp=f" {app.now()}")).session.startswith(f"users/{user_id}/")
    assert list(served.auth.token.orders[-1].amr) == ["pwd", "otp"]
    # It is used up, and nothing of the pool is in the database as it is.
    await code_refused(served.answer(challenge, totp=app.now()), "challenge")
    second = await served.begin(email)
    assert isinstance(second, MfaChallenge)
    (row,) = await served.auth.database.fetch("SELECT sealed FROM provider_demands")
    assert email.encode() not in row["sealed"]
    # A few wrong answers, and it is void.
    for _ in range(5):
        await code_refused(served.answer(second, totp=wrong), "totp")
    await code_refused(served.answer(second, totp=app.now()), "challenge")
    assert len(await served.auth.events("auth.mfa_failed")) >= 6
    # The password alone still tells who someone is, but does not change it.
    change = served.auth.provider.change(user_id, PASSWORD, OTHER, session=uuid.uuid4(), client_id="demo", address=HOME)
    await refused(change, FailedPrecondition, Reason.MFA_ENABLED)


@cognito
async def test_a_password_that_an_administrator_gave_is_replaced_at_sign_in(served: Served, email: str) -> None:
    assert served.pool
    await served.api.admin_create_user(
        UserPoolId=served.pool.id, Username=email, TemporaryPassword=PASSWORD, MessageAction="SUPPRESS",
        UserAttributes=[{"Name": "email", "Value": email}, {"Name": "email_verified", "Value": "true"}],
    )  # fmt: skip
    challenge = await served.begin(email)
    assert isinstance(challenge, MfaChallenge)
    assert list(challenge.methods) == ["new_password"]
    weak = served.answer(challenge, new_password="short")
    await refused(weak, InvalidArgument, Reason.PASSWORD_INVALID, "new_password")
    await code_refused(served.answer(challenge, totp="123456"), "totp")
    await served.answer(challenge, new_password=OTHER)
    await served.is_refused(email)
    await served.sign_in(email, OTHER)


@cognito
async def test_an_administrator_may_demand_a_reset(served: Served, email: str) -> None:
    assert served.pool
    await served.verified(email)
    await served.api.admin_reset_user_password(UserPoolId=served.pool.id, Username=email)
    with pytest.raises(MeshError) as refusal:
        await served.begin(email)
    assert refusal.value.reason in {Reason.PASSWORD_RESET_REQUIRED, Reason.CREDENTIALS_INVALID}


@cognito
async def test_a_wrong_client_secret_is_not_taken_for_a_wrong_password(
    served: Served, email: str, tmp_path: Path
) -> None:
    await served.verified(email)
    (tmp_path / "client-secret").write_text("another")
    await refused(served.begin(email), Unavailable, Reason.DEPENDENCY_UNAVAILABLE)
    (tmp_path / "client-secret").unlink()
    await refused(served.begin(email), Unavailable, Reason.DEPENDENCY_UNAVAILABLE)
