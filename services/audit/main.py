"""`python -m services.audit.main`: the Audit process."""

from contextlib import AsyncExitStack
from functools import partial

from authmesh.audit.v1.audit_service_pb2_grpc import AuditServiceServicer, add_AuditServiceServicer_to_server

from mesh.audit.event_bridge import EventBridgeSink
from mesh.aws import open_client
from mesh.database import Database
from mesh.outbox import Outbox, Relay
from mesh.rpc.channel import open_channel
from mesh.rpc.server import run, serve
from mesh.tokens.authentication import Authentication
from mesh.tokens.denials import record_denials
from services.audit.consumer import Consumer
from services.audit.settings import AuditSettings


async def main() -> None:
    """Wires the parts and serves until the process is told to stop."""
    settings = AuditSettings.load()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.open(settings.database_url.get_secret_value()))
        channel = await stack.enter_async_context(open_channel(settings.egress))
        outbox = Outbox("audit")
        relay = Relay(database, outbox, [EventBridgeSink(partial(open_client, "events", settings), settings.event_bus)])
        authentication = Authentication.for_mesh(channel, settings, record_denials(database, outbox))
        consumer = Consumer(
            partial(open_client, "sqs", settings),
            partial(open_client, "s3", settings),
            queue_url=settings.audit_queue_url,
            bucket=settings.audit_bucket,
        )

        await serve(
            settings,
            # The generated base class answers UNIMPLEMENTED: queries come with the projection.
            services=[(add_AuditServiceServicer_to_server, AuditServiceServicer())],  # type: ignore[abstract]
            authentication=authentication,
            checks={"database": lambda: database.healthy, **authentication.checks},
            tasks=[database.watch, *authentication.tasks, relay.run, consumer.run],
        )


if __name__ == "__main__":
    run(main)
