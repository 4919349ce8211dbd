"""The Token process: its parts, in the order in which they start."""

import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial

from authmesh.token.v1.client_service_pb2_grpc import add_ClientServiceServicer_to_server
from authmesh.token.v1.key_service_pb2_grpc import add_KeyServiceServicer_to_server
from authmesh.token.v1.token_issuer_pb2_grpc import add_TokenIssuerServicer_to_server
from authmesh.token.v1.token_service_pb2_grpc import add_TokenServiceServicer_to_server

from mesh.aws import open_client
from mesh.ids import uuid7
from mesh.outbox.relay import Relay
from mesh.outbox.sinks.events import EventBridgeSink
from mesh.outbox.work import Work
from mesh.rpc.limits import Limits
from mesh.rpc.server import run, serve
from mesh.storage.database import Database
from mesh.tokens.authentication import Authentication
from mesh.tokens.denials import Denials
from mesh.tokens.feed import RevocationFeed
from mesh.tokens.keys import KeySet
from mesh.tokens.policy import Policy
from mesh.tokens.revocations import RevocationSet
from mesh.tokens.verifier import Verifier
from services.token.clients.admin import ClientAdmin
from services.token.clients.bootstrap import ClientBootstrap
from services.token.clients.cache import ClientDirectory
from services.token.clients.client import FileInvalidError, load_clients
from services.token.clients.credentials_grant import ClientCredentialsGrant
from services.token.clients.service import ClientService
from services.token.discovery import metadata
from services.token.keys.access_token import AccessTokenWriter
from services.token.keys.admin import KeyAdmin
from services.token.keys.cache import KeyCache
from services.token.keys.deployment import Deployment, SettingMissingError
from services.token.keys.local import SecretFileInvalidError
from services.token.keys.rotator import KeyRotator
from services.token.keys.schedule import KeyPolicyUnsafeError
from services.token.keys.service import KeyService
from services.token.keys.signer import KeyFileInvalidError
from services.token.keys.store import KeyStore
from services.token.refusals import Refusals
from services.token.retention import Retention
from services.token.revocation.log import RevocationLog
from services.token.revocation.publisher import Publisher
from services.token.revocation.revoker import Revoker
from services.token.service import TokenIssuer, TokenService
from services.token.sessions.grants import load_role_scopes
from services.token.sessions.introspection import Introspection
from services.token.sessions.refresh import TokenRefresher
from services.token.sessions.sign_in import SessionIssuer
from services.token.sessions.sign_out import SessionManager
from services.token.sessions.store import Store
from services.token.sessions.subjects import SubjectSync
from services.token.settings import TokenSettings


def clock() -> datetime:
    """The time that Token goes by."""
    return datetime.now(UTC)


async def main() -> None:
    """Runs Token until it is told to stop."""
    settings = TokenSettings.load()
    try:
        first_clients, role_scopes = load_clients(settings.clients_file), load_role_scopes(settings.roles_file)
        deployment, key_policy = Deployment.read(settings), settings.key_policy()
        for client_id, client in first_clients.items():
            key_policy.check_client(client_id, timedelta(seconds=client.access_token_seconds))
    except (
        FileInvalidError,
        KeyFileInvalidError,
        SecretFileInvalidError,
        SettingMissingError,
        KeyPolicyUnsafeError,
    ) as error:
        sys.exit(f"authmesh: {error}")
    issuer, audience, redis_url = str(settings.issuer), settings.audience, settings.redis_url.get_secret_value()
    async with AsyncExitStack() as parts:
        database = await parts.enter_async_context(Database.open(settings.database_url.get_secret_value()))
        work = Work(database, "token", clock=clock)
        relay = Relay(work, [EventBridgeSink(partial(open_client, "events", settings), settings.event_bus)])
        store = Store(database)
        log = RevocationLog(database)
        publisher = Publisher(redis_url, log)
        revoker = Revoker(store, log)

        denials, refusals = Denials(work), Refusals()

        revocations = RevocationSet()
        key_store = KeyStore(database)
        custodies = await parts.enter_async_context(deployment.open())
        ring = KeyCache(key_store, custodies, is_revoked=revocations.refuses_key, clock=clock)
        keeper = KeyRotator(
            work,
            key_store,
            custodies,
            key_policy,
            algorithm=settings.signing_algorithm,
            first=deployment.first,
            changed=ring.refresh,
        )
        key_orders = KeyAdmin(work, key_store, log, key_policy.pace, changed=ring.refresh)

        async def own_jwks() -> bytes:
            return ring.jwks()

        keys = KeySet(own_jwks, algorithms=settings.accepted_algorithms, refresh_seconds=settings.jwks_cache_seconds)
        feed = RevocationFeed(redis_url, lambda: log.snapshot(clock()), revocations)
        verifier = Verifier(keys, issuer, audience)
        authentication = Authentication(
            verifier, keys, revocations, feed, Policy(), Limits.for_process(settings), denials=denials
        )

        clients = ClientDirectory(database, longest_token=key_policy.token_lifetime)
        seed = ClientBootstrap(work, first_clients)
        writer = AccessTokenWriter(ring, issuer, audience)
        sign_ins = SessionIssuer(work, store, revoker, writer, clients, role_scopes, new_id=uuid7)
        refreshes = TokenRefresher(work, store, revoker, denials, refusals, writer, clients, new_id=uuid7)
        client_tokens = ClientCredentialsGrant(work, denials, refusals, writer, clients, issuer, new_id=uuid7)
        client_administration = ClientAdmin(
            work, revoker, denials, role_scopes, longest_token=key_policy.token_lifetime
        )
        sign_outs = SessionManager(work, store, revoker, authentication.verify)
        subjects = SubjectSync(work, store, revoker, role_scopes)
        introspection = Introspection(store, authentication.verify, issuer=issuer, audience=audience, clock=clock)
        purge = Retention(database, clock=clock)
        service = TokenService(
            refreshes,
            client_tokens,
            sign_outs,
            introspection,
            jwks=ring.jwks,
            metadata=metadata(issuer, role_scopes.known),
            clock=clock,
        )
        await serve(
            settings,
            services=[
                (add_TokenServiceServicer_to_server, service),
                (add_TokenIssuerServicer_to_server, TokenIssuer(sign_ins, subjects, log, clock=clock)),
                (add_KeyServiceServicer_to_server, KeyService(key_orders, clock=clock)),
                (add_ClientServiceServicer_to_server, ClientService(client_administration)),
            ],
            authentication=authentication,
            checks={
                "database": lambda: database.healthy,
                "clients": lambda: seed.sown,
                "signing_keys": lambda: ring.loaded,
                **authentication.checks,
            },
            tasks=[
                database.watch,
                seed.run,
                ring.run,
                keeper.run,
                relay.run,
                publisher.run,
                purge.run,
                refusals.run,
                *authentication.tasks,
            ],
        )


if __name__ == "__main__":
    run(main)
