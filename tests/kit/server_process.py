"""A whole server process for test_server.py: the kit's own services, with a switch for each thing that can go wrong."""

import asyncio
import os
from pathlib import Path
from typing import Any

from authmesh.resource.v1 import resource_service_pb2_grpc
from authmesh.user.v1 import user_directory_pb2_grpc

from mesh.rpc.server import run, serve
from mesh.runtime.part import Part
from mesh.settings import ProcessSettings
from tests.kit.calls import CHANGE, FOUND, AdmitAll, Changes, Directory

SETTINGS = {
    "NODE": "user",
    "EGRESS": "/nowhere",
    "REDIS_URL": "unix:///nowhere",
    "ISSUER": "https://localhost",
    "AUDIENCE": "authmesh",
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

    class File(Part):
        name = "file"
        ready = property(lambda self: not (directory / "unready").exists())

        async def run(self) -> None:
            try:
                await until("break")
            finally:
                print("background ended", flush=True)
            raise KeyError("broken")

    class Other(Part):
        name = "other"
        ready = True

        async def run(self) -> None:
            """Has nothing to do."""

    await serve(
        settings,
        services=[
            (user_directory_pb2_grpc.add_UserDirectoryServicer_to_server, Directory(lookup)),
            (resource_service_pb2_grpc.add_ResourceServiceServicer_to_server, Changes(watch)),
        ],
        authentication=AdmitAll(),
        parts=[File(), Other()],
    )
    print("returned", flush=True)


if __name__ == "__main__":
    os.environ |= SETTINGS
    run(main)
