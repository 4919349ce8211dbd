"""`python -m services.resource.main`: the Resource process."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

from authmesh.resource.v1.resource_directory_pb2_grpc import add_ResourceDirectoryServicer_to_server
from authmesh.resource.v1.resource_service_pb2_grpc import add_ResourceServiceServicer_to_server

from mesh.ids import uuid7
from mesh.outbox.relay import Relay
from mesh.outbox.sinks.events import EventBridgeSink
from mesh.outbox.work import Work
from mesh.rpc.channel import open_channel
from mesh.rpc.server import run, serve
from mesh.storage.database import Database
from mesh.tokens.authentication import Authentication
from mesh.tokens.denials import Denials
from services.resource.authorizer import Authorizer
from services.resource.change_log import ChangeLog
from services.resource.erasure import Erasure
from services.resource.export import Export
from services.resource.resources import Resources
from services.resource.resume_tokens import ResumeTokens
from services.resource.retention import Retention
from services.resource.service import ResourceDirectory, ResourceService
from services.resource.settings import ResourceSettings
from services.resource.share_claims import ShareClaims
from services.resource.sharing import Sharing
from services.resource.user_lookup import UserDirectory
from services.resource.watch import Watch


async def main() -> None:
    """Wires the parts and serves until the process is told to stop."""
    settings = ResourceSettings.load()
    clock = partial(datetime.now, UTC)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.of(settings))
        channel = await stack.enter_async_context(open_channel(settings.egress))
        work = Work(database, "resource", clock=clock)
        denials = Denials(work)
        changes = ChangeLog(database)
        authorizer = Authorizer(work, denials)
        claims = ShareClaims(work, changes, UserDirectory(channel))
        resources = Resources(work, changes, authorizer, quota=settings.resources_per_owner, new_id=uuid7)
        sharing = Sharing(work, changes, authorizer, claims, new_id=uuid7)
        watch = Watch(changes, ResumeTokens(database), settings.watch_heartbeat)
        await serve(
            settings,
            services=[
                (add_ResourceServiceServicer_to_server, ResourceService(resources, sharing, watch)),
                (
                    add_ResourceDirectoryServicer_to_server,
                    ResourceDirectory(claims, Erasure(work, changes), Export(database)),
                ),
            ],
            authentication=Authentication.for_mesh(channel, settings, denials),
            parts=[
                database,
                Relay(work, [EventBridgeSink.of(settings)]),
                denials,
                watch,
                claims,
                Retention(database, changes, settings.change_retention, clock=clock),
            ],
        )


if __name__ == "__main__":
    run(main)
