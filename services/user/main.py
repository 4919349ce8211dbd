"""The User process: its parts, in the order in which they start."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime

from authmesh.user.v1.user_directory_pb2_grpc import add_UserDirectoryServicer_to_server
from authmesh.user.v1.user_service_pb2_grpc import add_UserServiceServicer_to_server

from mesh.outbox.relay import Relay
from mesh.outbox.sinks.commands import CommandSink
from mesh.outbox.sinks.events import EventBridgeSink
from mesh.outbox.sinks.messages import MessageSink
from mesh.outbox.work import Work
from mesh.rpc.channel import open_channel
from mesh.rpc.server import run, serve
from mesh.storage.database import Database
from mesh.tokens.authentication import Authentication
from mesh.tokens.denials import Denials
from services.user.administration import Administration
from services.user.command_pusher import ChannelCourier
from services.user.erasure import Erasure
from services.user.export import Export, sources
from services.user.profiles import Profiles
from services.user.service import UserDirectory, UserService
from services.user.settings import UserSettings


def clock() -> datetime:
    """The time that User goes by."""
    return datetime.now(UTC)


async def main() -> None:
    """Runs User until it is told to stop."""
    settings = UserSettings.load()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.of(settings))
        channel = await stack.enter_async_context(open_channel(settings.egress))
        work = Work(database, "user", clock=clock)
        denials = Denials(work)
        profiles = Profiles(work)
        courier = ChannelCourier(channel, settings.at_once_seconds)
        administration, erasure = Administration(work, courier), Erasure(work, courier)
        export = Export(work, sources(channel))
        await serve(
            settings,
            services=[
                (add_UserServiceServicer_to_server, UserService(profiles, administration, erasure, export)),
                (add_UserDirectoryServicer_to_server, UserDirectory(profiles)),
            ],
            authentication=Authentication.for_mesh(channel, settings, denials),
            parts=[
                database,
                Relay(work, [EventBridgeSink.of(settings), MessageSink.of(settings), CommandSink(channel)]),
                denials,
            ],
        )


if __name__ == "__main__":
    run(main)
