"""The Token process: its parts, in the order in which they start."""

import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

from authmesh.token.v1.client_service_pb2_grpc import add_ClientServiceServicer_to_server
from authmesh.token.v1.key_service_pb2_grpc import add_KeyServiceServicer_to_server
from authmesh.token.v1.token_issuer_pb2_grpc import add_TokenIssuerServicer_to_server
from authmesh.token.v1.token_service_pb2_grpc import add_TokenServiceServicer_to_server

from mesh.model.document import DocumentError
from mesh.outbox.relay import Relay
from mesh.outbox.sinks.events import EventBridgeSink
from mesh.outbox.work import Work
from mesh.rpc.limits import Limits
from mesh.rpc.server import run, serve
from mesh.secrets.ring import KeyRing
from mesh.secrets.source import SecretUnavailableError, secret_sources
from mesh.storage.database import Database
from mesh.tokens.authentication import Authentication
from mesh.tokens.denials import Denials
from mesh.tokens.feed import RevocationFeed
from mesh.tokens.keys import KeySet
from mesh.tokens.policy import Policy
from mesh.tokens.revocations import RevocationSet
from mesh.tokens.verifier import Verifier
from services.token.clients.client import load_clients
from services.token.clients.parts import make_clients
from services.token.discovery import metadata
from services.token.keys.access_token import AccessTokenWriter
from services.token.keys.deployment import Deployment, SettingMissingError
from services.token.keys.parts import open_keys
from services.token.keys.schedule import KeyPolicyUnsafeError
from services.token.keys.signer import KeyFileInvalidError
from services.token.refusals import Refusals
from services.token.retention import Retention
from services.token.revocation.log import RevocationLog
from services.token.revocation.publisher import Publisher
from services.token.revocation.revoker import Revoker
from services.token.service import TokenIssuer, TokenService
from services.token.sessions.grants import load_role_scopes
from services.token.sessions.parts import make_sessions
from services.token.sessions.store import Store
from services.token.settings import TokenSettings


def clock() -> datetime:
    """The time that Token goes by."""
    return datetime.now(UTC)


async def main() -> None:
    """Runs Token until it is told to stop."""
    settings = TokenSettings.load()
    signing_secrets = KeyRing("signing_secrets", secret_sources(settings.signing_secrets))
    try:
        first_clients, role_scopes = load_clients(settings.clients_file), load_role_scopes(settings.roles_file)
        await signing_secrets.step()
        deployment, key_policy = Deployment.read(settings, signing_secrets), settings.key_policy()
        for client_id, client in first_clients.items():
            key_policy.check_client(client_id, timedelta(seconds=client.access_token_seconds))
    except (
        DocumentError,
        KeyFileInvalidError,
        SecretUnavailableError,
        SettingMissingError,
        KeyPolicyUnsafeError,
    ) as error:
        sys.exit(f"authmesh: {error}")
    issuer, audience, redis_url = str(settings.issuer), settings.audience, settings.redis_url.get_secret_value()
    redis_logins = settings.redis_logins()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.of(settings))
        work = Work(database, "token", clock=clock)
        store, log, revocations = Store(database), RevocationLog(database), RevocationSet()
        denials, refusals, revoker = Denials(work), Refusals(), Revoker(store, log)
        keys = await stack.enter_async_context(
            open_keys(work, deployment, key_policy, settings.signing_algorithm, log, revocations, clock)
        )
        writer = AccessTokenWriter(keys.cache, issuer, audience)

        async def own_jwks() -> bytes:
            return keys.cache.jwks()

        # What other services ask Token for, Token has itself.
        key_set = KeySet(own_jwks, algorithms=settings.accepted_algorithms, refresh_seconds=settings.jwks_cache_seconds)
        authentication = Authentication(
            Verifier(key_set, issuer, audience),
            key_set,
            revocations,
            RevocationFeed(redis_url, lambda: log.snapshot(clock()), revocations, logins=redis_logins),
            Policy(mfa_roles=settings.roles_with_mfa),
            Limits.for_process(settings),
            denials=denials,
        )
        clients = make_clients(
            work,
            first_clients,
            writer,
            revoker,
            denials,
            refusals,
            role_scopes,
            issuer=issuer,
            longest_token=key_policy.token_lifetime,
        )
        sessions = make_sessions(
            work,
            store,
            writer,
            clients.directory,
            revoker,
            denials,
            refusals,
            role_scopes,
            authentication.verify,
            issuer=issuer,
            audience=audience,
            mfa_roles=settings.roles_with_mfa,
            clock=clock,
        )
        service = TokenService(
            sessions.refreshes,
            clients.grant,
            sessions.sign_outs,
            sessions.introspection,
            jwks=keys.cache.jwks,
            metadata=metadata(issuer, role_scopes.known),
            clock=clock,
        )
        await serve(
            settings,
            services=[
                (add_TokenServiceServicer_to_server, service),
                (
                    add_TokenIssuerServicer_to_server,
                    TokenIssuer(sessions.sign_ins, sessions.subjects, sessions.export, log, clock=clock),
                ),
                (add_KeyServiceServicer_to_server, keys.service),
                (add_ClientServiceServicer_to_server, clients.service),
            ],
            authentication=authentication,
            parts=[
                database,
                signing_secrets,
                Relay(work, [EventBridgeSink.of(settings)]),
                Publisher(redis_url, log, logins=redis_logins),
                denials,
                refusals,
                *keys.parts,
                *clients.parts,
                Retention(database, clock=clock),
            ],
        )


if __name__ == "__main__":
    run(main)
