"""A whole server process for test_server.py: the kit's own services, with a switch for each thing that can go wrong."""

import asyncio
import os
from pathlib import Path
from typing import Any

from authmesh.resource.v1 import resource_service_pb2_grpc
from authmesh.user.v1 import user_directory_pb2_grpc

from mesh.rpc.server import run, serve
from mesh.settings import ProcessSettings
from tests.kit.calls import CHANGE, FOUND, Changes, Directory, admit

SETTINGS = {
    "NODE": "user",
    "EGRESS": "/nowhere",
    "DATABASE_URL": "postgresql://nobody@/nothing",
    "REDIS_URL": "unix:///nowhere",
    "ISSUER": "https://localhost",
    "AUDIENCE": "authmesh",
    "AWS_REGION": "eu-central-1",
    "EVENT_BUS": "authmesh",
    "MESSAGES_TOPIC_ARN": "arn:aws:sns:eu-central-1:000000000000:messages",
}


async def main() -> None:
    """Serves. In the directory of the socket, `finish` lets calls end, `unready` makes a check fail and `break` makes a
    background task fail."""
    settings = ProcessSettings.load()
    directory = Path(settings.socket).parent

    async def until(name: str) -> None:
        while not (directory / name).exists():
            await asyncio.sleep(0.01)

    async def lookup(_: object) -> object:
        (directory / "arrived").touch()
        await until("finish")
        return FOUND

    async def watch() -> Any:
        yield CHANGE
        await asyncio.Event().wait()

    async def work() -> None:
        try:
            await until("break")
        finally:
            print("background ended", flush=True)
        raise KeyError("broken")

    await serve(
        settings,
        services=[
            (user_directory_pb2_grpc.add_UserDirectoryServicer_to_server, Directory(lookup)),
            (resource_service_pb2_grpc.add_ResourceServiceServicer_to_server, Changes(watch)),
        ],
        authentication=admit,
        checks={"file": lambda: not (directory / "unready").exists(), "other": lambda: True},
        tasks=[work],
    )
    print("returned", flush=True)


if __name__ == "__main__":
    os.environ |= SETTINGS
    run(main)
