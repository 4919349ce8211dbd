"""`python -m services.audit.main`: the Audit process."""

from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

from authmesh.audit.v1.audit_directory_pb2_grpc import add_AuditDirectoryServicer_to_server
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
from services.audit.service import AuditDirectory
from services.audit.settings import AuditSettings

HEARTBEAT = timedelta(seconds=30)
"""Of a watch that has nothing to say."""


async def main() -> None:
    """Wires the parts and serves until the process is told to stop."""
    settings = AuditSettings.load()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.of(settings, plan_for_values=True))
        channel = await stack.enter_async_context(open_channel(settings.egress))
        work = Work(database, "audit")
        denials = Denials(work)
        projection = Projection(database)
        projector = Projector(projection)
        checkpointer = Checkpointer(
            database,
            projector,
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
            stored=projector.stored,
        )

        await serve(
            settings,
            services=[
                (add_AuditServiceServicer_to_server, AuditService(projection, Watch(projection, projector, HEARTBEAT))),
                (add_AuditDirectoryServicer_to_server, AuditDirectory(work, projection)),
            ],
            authentication=Authentication.for_mesh(channel, settings, denials),
            parts=[
                database,
                Relay(work, [EventBridgeSink.of(settings)]),
                denials,
                projector,
                consumer,
                checkpointer,
            ],
        )


if __name__ == "__main__":
    run(main)
