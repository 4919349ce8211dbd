"""The Auth process: its parts, in the order in which they start."""

import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

from authmesh.auth.v1.auth_service_pb2_grpc import add_AuthServiceServicer_to_server
from authmesh.auth.v1.credential_directory_pb2_grpc import add_CredentialDirectoryServicer_to_server
from authmesh.auth.v1.identity_service_pb2_grpc import add_IdentityServiceServicer_to_server
from authmesh.auth.v1.passkey_service_pb2_grpc import add_PasskeyServiceServicer_to_server
from authmesh.token.v1.token_issuer_pb2_grpc import TokenIssuerStub

from mesh.aws import open_client
from mesh.ids import uuid7
from mesh.model.document import DocumentError
from mesh.outbox.relay import Relay
from mesh.outbox.sinks.commands import CommandSink
from mesh.outbox.sinks.events import EventBridgeSink
from mesh.outbox.sinks.messages import MessageSink
from mesh.outbox.work import Work
from mesh.rpc.channel import open_channel
from mesh.rpc.server import run, serve
from mesh.secrets.ring import KeyRing
from mesh.secrets.source import SecretUnavailableError, secret_sources
from mesh.storage.database import Database
from mesh.tokens.authentication import Authentication
from mesh.tokens.denials import Denials
from services.auth.cognito.parts import open_provider, pool_keys
from services.auth.constant_time import ConstantTime
from services.auth.credential_lifecycle import CredentialLifecycle
from services.auth.denials import AnonymousDenials
from services.auth.export import Export
from services.auth.hasher import Hasher
from services.auth.identities.identities import IdentityLinks, KnownProvider
from services.auth.identities.provider_keys import ProviderKeys
from services.auth.identities.providers import load_providers
from services.auth.identities.service import IdentityService
from services.auth.identity_provider import IdentityProvider, LocalIdentityProvider
from services.auth.mfa import Mfa
from services.auth.notifications import NotificationConsumer
from services.auth.passkeys.passkeys import PasskeyRegistry
from services.auth.passkeys.relying_party import RelyingParty
from services.auth.passkeys.service import PasskeyService
from services.auth.passkeys.sign_in import PasskeyAuthenticator
from services.auth.password_policy import PasswordPolicy
from services.auth.passwords import Passwords
from services.auth.reauthentication import Reauthentication
from services.auth.retention import Retention
from services.auth.second_factors import SecondFactors
from services.auth.secret_box import SecretBox
from services.auth.service import AuthService, CredentialDirectory
from services.auth.settings import AuthSettings
from services.auth.sign_in import Authenticator
from services.auth.sign_out import SignOut
from services.auth.sign_up import Registration
from services.auth.throttle import Throttle
from services.auth.turns import Turns

TURNS_PER_THREAD = 3
"""One whose password is hashed, one who comes next, one at the database."""


def clock() -> datetime:
    """The time that Auth goes by."""
    return datetime.now(UTC)


async def main() -> None:
    """Runs Auth until it is told to stop."""
    settings = AuthSettings.load()
    mfa_secrets = KeyRing("mfa_secrets", secret_sources(settings.mfa_secrets))
    peppers = KeyRing("password_peppers", secret_sources(settings.password_peppers))
    for ring in (mfa_secrets, peppers):
        try:
            await ring.step()
        except SecretUnavailableError as error:
            sys.exit(f"authmesh: {ring.name.upper()}: {error}")
    try:
        providers = load_providers(file) if (file := settings.identity_providers_file) else {}
    except DocumentError as error:
        sys.exit(f"authmesh: IDENTITY_PROVIDERS_FILE: {error}")
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.of(settings))
        channel = await stack.enter_async_context(open_channel(settings.egress))
        work = Work(database, "auth", clock=clock)
        denials = Denials(work)
        hasher = Hasher(
            time_cost=settings.argon2_time_cost,
            memory_kib=settings.argon2_memory_kib,
            lanes=settings.argon2_lanes,
            threads=settings.argon2_threads,
        )
        peppers.follow(hasher.pepper)
        turns = Turns(at_once=TURNS_PER_THREAD * settings.argon2_threads, waiting=settings.argon2_waiting)
        anonymous = AnonymousDenials(work)
        constant_time = ConstantTime(settings.answer_seconds)
        throttle = Throttle(settings.rate_limit_factor)
        policy = PasswordPolicy.load(shortest=settings.password_min_length)
        token = TokenIssuerStub(channel)
        box = SecretBox(*mfa_secrets.secrets) if mfa_secrets.secrets else None
        if box:
            mfa_secrets.follow(box.renew)
        factors = SecondFactors(box)
        sign_out = SignOut(token.RevokeSubject, factors)
        user_pool_keys = pool_keys(settings) if settings.identity_provider == "cognito" else None
        provider: IdentityProvider
        if user_pool_keys:
            provider = await stack.enter_async_context(
                open_provider(
                    settings, work, user_pool_keys, policy, anonymous, constant_time, throttle, turns, sign_out
                )
            )
        else:
            own = (policy, anonymous, constant_time, throttle, turns)
            registration = Registration(work, hasher, *own, new_id=uuid7)
            passwords = Passwords(work, hasher, *own, sign_out)
            provider = LocalIdentityProvider(registration, passwords, hasher)
        sign_ins = Authenticator(
            work,
            provider,
            anonymous,
            constant_time,
            throttle,
            turns,
            token.CheckSignIn,
            token.IssueTokens,
            factors,
        )
        mfa = Mfa(work, factors, throttle, issuer_name=settings.mfa_issuer_name)
        party = (
            RelyingParty(settings.passkey_rp_id, settings.passkey_rp_name, settings.origins_of_passkeys)
            if settings.passkey_rp_id
            else None
        )
        reauthentication = Reauthentication(work, provider, throttle, turns, factors, mfa, party, token.Reauthenticate)
        passkeys = PasskeyService(
            PasskeyRegistry(work, party, new_id=uuid7),
            PasskeyAuthenticator(work, party, anonymous, throttle, token.CheckSignIn, sign_ins),
        )
        known = [KnownProvider(provider, ProviderKeys(name, provider)) for name, provider in providers.items()]
        identities = IdentityLinks(work, known, anonymous, throttle, token.CheckSignIn, sign_ins, new_id=uuid7)
        credentials = CredentialLifecycle(work, provider)
        queue_url, open_sqs = settings.notices_queue_url, partial(open_client, "sqs", settings)
        notifications = [NotificationConsumer(work, open_sqs, queue_url)] if queue_url else []
        await serve(
            settings,
            services=[
                (
                    add_AuthServiceServicer_to_server,
                    AuthService(provider, sign_ins, mfa, reauthentication, identities),
                ),
                (add_PasskeyServiceServicer_to_server, passkeys),
                (add_IdentityServiceServicer_to_server, IdentityService(identities)),
                (add_CredentialDirectoryServicer_to_server, CredentialDirectory(credentials, mfa, Export(work))),
            ],
            authentication=Authentication.for_mesh(channel, settings, denials),
            parts=[
                database,
                mfa_secrets,
                peppers,
                Relay(work, [EventBridgeSink.of(settings), MessageSink.of(settings), CommandSink(channel)]),
                denials,
                anonymous,
                Retention(database, clock),
                *notifications,
                *(known_provider.keys for known_provider in known),
                *([user_pool_keys] if user_pool_keys else []),
            ],
        )


if __name__ == "__main__":
    run(main)
