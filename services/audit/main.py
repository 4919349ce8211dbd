"""`python -m services.audit.main`: the Audit process."""

from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

from authmesh.audit.v1.audit_service_pb2_grpc import add_AuditServiceServicer_to_server

from mesh.aws import open_client
from mesh.model.mesh import load_mesh
from mesh.outbox.relay import Relay
from mesh.outbox.sinks.events import EventBridgeSink
from mesh.outbox.work import Work
from mesh.rpc.channel import open_channel
from mesh.rpc.server import run, serve
from mesh.storage.database import Database
from mesh.tokens.authentication import Authentication
from mesh.tokens.denials import Denials
from services.audit.pipeline.consumer import Consumer
from services.audit.pipeline.envelope import Intake, names
from services.audit.proof.checkpointer import Checkpointer
from services.audit.reading.projection import Projection
from services.audit.reading.projector import Projector
from services.audit.reading.service import AuditService
from services.audit.reading.watch import Watch
from services.audit.settings import AuditSettings

HEARTBEAT = timedelta(seconds=30)
"""Of a watch that has nothing to say."""


async def main() -> None:
    """Wires the parts and serves until the process is told to stop."""
    settings = AuditSettings.load()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            Database.open(settings.database_url.get_secret_value(), plan_for_values=True)
        )
        channel = await stack.enter_async_context(open_channel(settings.egress))
        work = Work(database, "audit")
        relay = Relay(work, [EventBridgeSink(partial(open_client, "events", settings), settings.event_bus)])
        authentication = Authentication.for_mesh(channel, settings, Denials(work))
        projection = Projection(database)
        follower = Projector(projection)
        checkpointer = Checkpointer(
            database,
            follower,
            partial(open_client, "s3", settings),
            partial(open_client, "kms", settings),
            bucket=settings.audit_bucket,
            key_id=settings.audit_checkpoint_key,
            interval=timedelta(seconds=settings.checkpoint_seconds),
        )
        consumer = Consumer(
            partial(open_client, "sqs", settings),
            partial(open_client, "s3", settings),
            queue_url=settings.audit_queue_url,
            bucket=settings.audit_bucket,
            intake=Intake(load_mesh().nodes, names(settings.audit_queue_senders)),
            stored=follower.stored,
        )

        await serve(
            settings,
            services=[
                (add_AuditServiceServicer_to_server, AuditService(projection, Watch(projection, follower, HEARTBEAT)))
            ],
            authentication=authentication,
            checks={"database": lambda: database.healthy, **authentication.checks},
            tasks=[database.watch, *authentication.tasks, relay.run, consumer.run, follower.run, checkpointer.run],
        )


if __name__ == "__main__":
    run(main)
