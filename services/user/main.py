"""The User process: its parts, in the order in which they start."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

from authmesh.user.v1.user_directory_pb2_grpc import add_UserDirectoryServicer_to_server
from authmesh.user.v1.user_service_pb2_grpc import add_UserServiceServicer_to_server

from mesh.aws import open_client
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
from services.user.profiles import Profiles
from services.user.service import UserDirectory, UserService
from services.user.settings import UserSettings


def clock() -> datetime:
    """The time that User goes by."""
    return datetime.now(UTC)


async def main() -> None:
    """Runs User until it is told to stop."""
    settings = UserSettings.load()
    async with AsyncExitStack() as parts:
        database = await parts.enter_async_context(Database.open(settings.database_url.get_secret_value()))
        channel = await parts.enter_async_context(open_channel(settings.egress))
        work = Work(database, "user", clock=clock)
        relay = Relay(
            work,
            [
                EventBridgeSink(partial(open_client, "events", settings), settings.event_bus),
                MessageSink(partial(open_client, "sns", settings), settings.messages_topic_arn),
                CommandSink(channel),
            ],
        )
        authentication = Authentication.for_mesh(channel, settings, Denials(work))
        directory = Profiles(work)
        administration = Administration(work, ChannelCourier(channel, settings.at_once_seconds))
        await serve(
            settings,
            services=[
                (add_UserServiceServicer_to_server, UserService(directory, administration)),  # type: ignore[abstract] # DeleteUser is to come
                (add_UserDirectoryServicer_to_server, UserDirectory(directory)),
            ],
            authentication=authentication,
            checks={"database": lambda: database.healthy, **authentication.checks},
            tasks=[database.watch, relay.run, *authentication.tasks],
        )


if __name__ == "__main__":
    run(main)
