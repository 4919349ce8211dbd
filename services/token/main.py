"""The Token process: its parts, in the order in which they start."""

import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

from authmesh.token.v1.client_service_pb2_grpc import add_ClientServiceServicer_to_server
from authmesh.token.v1.key_service_pb2_grpc import KeyServiceServicer, add_KeyServiceServicer_to_server
from authmesh.token.v1.token_issuer_pb2_grpc import add_TokenIssuerServicer_to_server
from authmesh.token.v1.token_service_pb2_grpc import add_TokenServiceServicer_to_server

from mesh.audit.event_bridge import EventBridgeSink
from mesh.aws import open_client
from mesh.database import Database
from mesh.ids import uuid7
from mesh.outbox import Outbox, Relay
from mesh.rpc.server import run, serve
from mesh.tokens.authentication import Authentication
from mesh.tokens.denials import record_denials
from mesh.tokens.feed import RevocationFeed
from mesh.tokens.keys import KeySet
from mesh.tokens.policy import Policy
from mesh.tokens.revocations import RevocationSet
from mesh.tokens.verifier import Verifier
from services.token.access_token import AccessTokenWriter
from services.token.client_desk import ClientDesk
from services.token.client_directory import ClientDirectory
from services.token.client_seed import ClientSeed
from services.token.client_service import ClientService
from services.token.client_tokens import ClientTokenDesk
from services.token.clients import FileInvalidError, load_clients
from services.token.discovery import metadata
from services.token.grants import load_role_scopes
from services.token.introspection import Introspection
from services.token.publisher import Publisher
from services.token.purge import Purge
from services.token.refresh import RefreshDesk
from services.token.revocation_log import RevocationLog
from services.token.revoker import Revoker
from services.token.service import TokenIssuer, TokenService
from services.token.settings import TokenSettings
from services.token.sign_in import SignInDesk
from services.token.sign_out import SignOutDesk
from services.token.signer import KeyFileInvalidError, LocalSigner
from services.token.store import Store
from services.token.subjects import SubjectDesk


def clock() -> datetime:
    """The time that Token goes by."""
    return datetime.now(UTC)


async def main() -> None:
    """Runs Token until it is told to stop."""
    settings = TokenSettings.load()
    try:
        first_clients, role_scopes = load_clients(settings.clients_file), load_role_scopes(settings.roles_file)
        signer = LocalSigner.from_file(settings.signing_key_file)
    except (FileInvalidError, KeyFileInvalidError) as error:
        sys.exit(f"authmesh: {error}")
    issuer, audience, redis_url = str(settings.issuer), settings.audience, settings.redis_url.get_secret_value()
    async with AsyncExitStack() as parts:
        database = await parts.enter_async_context(Database.open(settings.database_url.get_secret_value()))
        outbox = Outbox(source="token")
        relay = Relay(database, outbox, [EventBridgeSink(partial(open_client, "events", settings), settings.event_bus)])
        store = Store(database)
        log = RevocationLog(database)
        publisher = Publisher(redis_url, log)
        revoker = Revoker(store, log, outbox)

        async def own_jwks() -> bytes:
            return signer.jwks

        keys = KeySet(own_jwks)
        revocations = RevocationSet()
        feed = RevocationFeed(redis_url, lambda: log.snapshot(clock()), revocations)
        verifier = Verifier(keys, issuer, audience)
        authentication = Authentication(verifier, keys, revocations, feed, Policy(), on_denied=record_denials(database, outbox))

        clients = ClientDirectory(database)
        seed = ClientSeed(database, outbox, first_clients)
        writer = AccessTokenWriter(signer, issuer, audience)
        sign_ins = SignInDesk(database, store, revoker, outbox, writer, clients, role_scopes, clock=clock, new_id=uuid7)
        refreshes = RefreshDesk(database, store, revoker, outbox, writer, clients, clock=clock, new_id=uuid7)
        client_tokens = ClientTokenDesk(database, outbox, writer, clients, issuer, clock=clock, new_id=uuid7)
        client_administration = ClientDesk(database, revoker, outbox, role_scopes, clock=clock)
        sign_outs = SignOutDesk(database, store, revoker, authentication.verify, clock=clock)
        subjects = SubjectDesk(database, store, revoker, outbox, role_scopes, clock=clock)
        introspection = Introspection(store, authentication.verify, issuer=issuer, audience=audience, clock=clock)
        purge = Purge(database, clock=clock)
        service = TokenService(refreshes, client_tokens, sign_outs, introspection, jwks=signer.jwks, metadata=metadata(issuer, role_scopes.known))
        await serve(
            settings,
            services=[
                (add_TokenServiceServicer_to_server, service),
                (add_TokenIssuerServicer_to_server, TokenIssuer(sign_ins, subjects, log, clock=clock)),
                (add_KeyServiceServicer_to_server, KeyServiceServicer()),  # type: ignore[abstract] # all of it is UNIMPLEMENTED
                (add_ClientServiceServicer_to_server, ClientService(client_administration)),
            ],
            authentication=authentication,
            checks={"database": lambda: database.healthy, "clients": lambda: seed.sown, **authentication.checks},
            tasks=[database.watch, seed.run, relay.run, publisher.run, purge.run, *authentication.tasks],
        )


if __name__ == "__main__":
    run(main)
