"""Auth on a real database, with a clock that the test moves, and a Token that does as it is told."""

import asyncio
import json
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyotp
import pytest
from authmesh.audit.v1 import audit_event_pb2
from authmesh.auth.v1.auth_service_pb2 import MfaChallenge
from authmesh.auth.v1.auth_service_pb2_grpc import AuthServiceStub, add_AuthServiceServicer_to_server
from authmesh.auth.v1.credential_directory_pb2_grpc import (
    CredentialDirectoryStub,
    add_CredentialDirectoryServicer_to_server,
)
from authmesh.token.v1 import token_issuer_pb2, token_set_pb2
from google.protobuf import empty_pb2

from mesh.errors import InvalidArgument, MeshError, Reason
from mesh.ids import uuid7
from mesh.outbox.work import Work
from mesh.storage.database import Database
from services.auth.constant_time import ConstantTime
from services.auth.credential_lifecycle import CredentialLifecycle
from services.auth.denials import AnonymousDenials
from services.auth.export import Export
from services.auth.hasher import Hasher
from services.auth.identities.identities import IdentityLinks, KnownProvider
from services.auth.identity_provider import IdentityProvider, LocalIdentityProvider
from services.auth.mfa import Mfa
from services.auth.password_policy import PasswordPolicy
from services.auth.passwords import Passwords
from services.auth.reauthentication import Reauthentication
from services.auth.retention import Retention
from services.auth.second_factors import SecondFactors
from services.auth.secret_box import SecretBox
from services.auth.service import AuthService, CredentialDirectory
from services.auth.sign_in import Attempt, Authenticator, MfaAnswer
from services.auth.sign_out import SignOut
from services.auth.sign_up import Application, Registration
from services.auth.throttle import Throttle
from services.auth.turns import Turns
from tests.kit.serving import TrustedCaller, served

EMAIL = "ada@example.com"
PASSWORD = "correct horse battery"
HOME, ELSEWHERE = "203.0.113.7", "198.51.100.7"
WEAK = {"time_cost": 1, "memory_kib": 64, "lanes": 1, "threads": 2}


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **time: float) -> None:
        self.now += timedelta(**time)


@dataclass
class Token:
    """Stands in for the Token service: notes orders, and answers with tokens or with `refusal`."""

    orders: list[token_issuer_pb2.IssueTokensRequest] = field(default_factory=list)
    refusal: MeshError | None = None
    check_refusal: MeshError | None = None
    issuing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an order comes."""
    revoked: list[token_issuer_pb2.RevokeSubjectRequest] = field(default_factory=list)
    reauthenticated: list[token_issuer_pb2.ReauthenticateRequest] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    """Orders wait for it."""

    def __post_init__(self) -> None:
        self.may_answer.set()

    async def check(self, _: token_issuer_pb2.CheckSignInRequest) -> empty_pb2.Empty:
        if self.check_refusal:
            raise self.check_refusal
        return empty_pb2.Empty()

    async def issue(self, order: token_issuer_pb2.IssueTokensRequest) -> token_set_pb2.TokenSet:
        self.issuing.set()
        await self.may_answer.wait()
        if self.refusal:
            raise self.refusal
        self.orders.append(order)
        return token_set_pb2.TokenSet(access_token="access", session=f"users/{order.subject}/sessions/{uuid.uuid4()}")

    async def reauthenticate(self, order: token_issuer_pb2.ReauthenticateRequest) -> empty_pb2.Empty:
        if self.refusal:
            raise self.refusal
        self.reauthenticated.append(order)
        return empty_pb2.Empty()

    async def revoke(self, order: token_issuer_pb2.RevokeSubjectRequest) -> empty_pb2.Empty:
        if self.refusal:
            raise self.refusal
        self.revoked.append(order)
        return empty_pb2.Empty()


class Auth:
    """The parts of the service, wired as main.py wires them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = Clock()
        self.token = Token()
        self.work = Work(database, "auth", clock=self.clock)
        self.denials = AnonymousDenials(self.work)
        self.retention = Retention(database, self.clock)
        self.box = SecretBox(secrets.token_bytes(32))
        # What a test keeps of a person.
        self.app: Any = None
        self.recovery_codes: Sequence[str] = ()
        self.challenges: Sequence[Any] = ()
        self.use_hasher(Hasher(**WEAK))

    def use_hasher(self, hasher: Hasher, answer_seconds: float = 0, *, waiting: int = 500, factor: int = 1) -> None:
        self.hasher = hasher
        self.factors = SecondFactors(self.box)
        level, throttle, turns = ConstantTime(answer_seconds), Throttle(factor), Turns(at_once=6, waiting=waiting)
        self.turns = turns
        policy = PasswordPolicy.load()
        self.desk = Registration(
            self.work,
            hasher,
            policy,
            self.denials,
            level,
            throttle,
            turns,
            new_id=uuid7,
        )
        self.passwords = Passwords(
            self.work,
            hasher,
            policy,
            self.denials,
            level,
            throttle,
            turns,
            SignOut(self.token.revoke, self.factors),
        )
        self.throttle, self.level, self.policy = throttle, level, policy
        self.use_provider(LocalIdentityProvider(self.desk, self.passwords, hasher))

    def use_provider(self, provider: IdentityProvider) -> None:
        self.provider = provider
        self.credentials = CredentialLifecycle(self.work, provider)
        self.gate = Authenticator(
            self.work,
            provider,
            self.denials,
            self.level,
            self.throttle,
            self.turns,
            self.token.check,
            self.token.issue,
            self.factors,
        )
        self.mfa = Mfa(self.work, self.factors, self.throttle, issuer_name="authmesh")
        self.reauthentication = Reauthentication(
            self.work, provider, self.throttle, self.turns, self.factors, self.mfa, None, self.token.reauthenticate
        )
        self.identities = self.linked_to([])

    def linked_to(self, providers: Sequence[KnownProvider]) -> IdentityLinks:
        """What believes these providers."""
        return IdentityLinks(self.work, providers, self.denials, Throttle(), self.token.check, self.gate, new_id=uuid7)

    async def sign_up(
        self,
        email: str = EMAIL,
        password: str = PASSWORD,
        *,
        name: str = "Ada",
        request_id: uuid.UUID | None = None,
        address: str = HOME,
    ) -> None:
        await self.desk.sign_up(Application(email, password, name, request_id), address)

    async def sign_in(
        self,
        email: str = EMAIL,
        password: str = PASSWORD,
        *,
        address: str = HOME,
        instance_id: str = "",
        client_id: str = "demo",
    ) -> token_set_pb2.TokenSet:
        """Signs somebody in who has no second factor."""
        outcome = await self.begin(email, password, address=address, instance_id=instance_id, client_id=client_id)
        assert isinstance(outcome, token_set_pb2.TokenSet)
        return outcome

    async def begin(
        self,
        email: str = EMAIL,
        password: str = PASSWORD,
        *,
        address: str = HOME,
        instance_id: str = "",
        client_id: str = "demo",
    ) -> token_set_pb2.TokenSet | MfaChallenge:
        device = token_set_pb2.Device(instance_id=instance_id)
        return await self.gate.sign_in(Attempt(email, password, client_id, device, ["user:read"], address, "test/1"))

    async def verified(self, email: str = EMAIL, password: str = PASSWORD) -> uuid.UUID:
        """Signs somebody up and verifies the address. Returns the user's id."""
        await self.sign_up(email, password)
        await self.desk.verify_email(email, await self.newest_code(email), HOME)
        user_id: uuid.UUID = await self.database.fetchval("SELECT user_id FROM accounts WHERE email = $1", email)
        return user_id

    async def messages(self, email: str = EMAIL) -> list[dict[str, Any]]:
        rows = await self.database.fetch("SELECT payload FROM outbox WHERE kind = 'message' ORDER BY id")
        return [message for row in rows if (message := json.loads(row["payload"]))["email"] == email]

    async def kinds(self, email: str = EMAIL) -> list[str]:
        """The kinds of the notices that were sent."""
        return [message["kind"] for message in await self.messages(email) if message["kind"] != "verify_email"]

    async def reset_code(self, email: str = EMAIL) -> str:
        """Asks for a reset code. Returns it."""
        await self.passwords.request_reset(email, HOME)
        return await self.newest_code(email)

    async def newest_code(self, email: str = EMAIL) -> str:
        return str([message["code"] for message in await self.messages(email) if message["code"]][-1])

    async def events(self, type_: str = "") -> list[audit_event_pb2.AuditEvent]:
        rows = await self.database.fetch("SELECT payload FROM outbox WHERE kind = 'audit' ORDER BY id")
        events = [audit_event_pb2.AuditEvent.FromString(row["payload"]) for row in rows]
        return [event for event in events if type_ in ("", event.type)]

    async def denied(self, reason: str) -> int:
        return int(
            await self.database.fetchval(
                "SELECT coalesce(sum(count), 0) FROM anonymous_denials WHERE reason = $1", reason
            )
        )


@pytest.fixture
async def auth(open_database: Callable[[str], Awaitable[Database]]) -> Auth:
    return Auth(await open_database("services.auth"))


@dataclass
class Person:
    auth: Auth
    id: uuid.UUID
    app: pyotp.TOTP
    recovery_codes: list[str]

    def code(self) -> str:
        """The app's next code: time goes on until it has one that was not used."""
        self.auth.clock.pass_(seconds=30)
        return self.app.at(self.auth.clock.now)

    async def challenge(self, **more: str) -> str:
        challenge = await self.auth.begin(**more)
        assert isinstance(challenge, MfaChallenge)
        return challenge.challenge

    async def answer(
        self, challenge: str, *, totp: str = "", recovery_code: str = "", address: str = HOME
    ) -> token_set_pb2.TokenSet:
        return await self.auth.gate.verify_mfa(MfaAnswer(challenge, totp, recovery_code, address, "test/1"))


def app_of(uri: str) -> pyotp.TOTP:
    app = pyotp.parse_uri(uri)
    assert isinstance(app, pyotp.TOTP)
    return app


@pytest.fixture
async def ada(auth: Auth) -> Person:
    """Somebody who has set up an app."""
    user_id = await auth.verified()
    app = app_of((await auth.mfa.enroll(user_id)).uri)
    codes = await auth.mfa.confirm(user_id, uuid.uuid4(), app.at(auth.clock.now))
    return Person(auth, user_id, app, list(codes))


async def refused(action: Awaitable[object], kind: type[MeshError], reason: Reason, *fields: str) -> MeshError:
    with pytest.raises(kind) as refusal:
        await action
    assert refusal.value.reason is reason
    assert tuple(violation.field for violation in refusal.value.violations) == fields
    return refusal.value


async def code_refused(action: Awaitable[object], field: str) -> None:
    await refused(action, InvalidArgument, Reason.CODE_INVALID, field)


@dataclass
class Served:
    parts: Auth
    auth: AuthServiceStub
    credentials: CredentialDirectoryStub


@asynccontextmanager
async def serving(auth: Auth) -> AsyncIterator[Served]:
    ours = [
        (
            add_AuthServiceServicer_to_server,
            AuthService(auth.provider, auth.gate, auth.mfa, auth.reauthentication, auth.identities),
        ),
        (add_CredentialDirectoryServicer_to_server, CredentialDirectory(auth.credentials, auth.mfa, Export(auth.work))),
    ]
    async with served(ours, TrustedCaller()) as channel:
        yield Served(auth, AuthServiceStub(channel), CredentialDirectoryStub(channel))
