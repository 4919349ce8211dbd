"""A service process: `python -m services.<node>.main`, on a unix socket that only its sidecar dials."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh.local.health import GrpcHealth
from mesh.local.process import Program


@dataclass(frozen=True, slots=True)
class OwnCommand:
    """How a service of one's own starts."""

    argv: tuple[str, ...]
    folder: Path

    @classmethod
    def of(cls, command: tuple[str, ...], file: Path) -> "OwnCommand":
        """Of a mesh file: in its folder, `python` is the mesh's own."""
        program = sys.executable if command[0] == "python" else command[0]
        return cls((program, *command[1:]), file.parent)


def program(
    node: str,
    socket: Path,
    environment: Mapping[str, str],
    log: Path,
    health: GrpcHealth,
    own: OwnCommand | None = None,
) -> Program:
    """Describes the process of a service.

    Args:
        node: Its name in mesh.yaml.
        socket: Where it serves.
        environment: All of its settings.
        log: Its log file.
        health: Asks on that socket.
        own: What to start instead, where it is not one of ours.
    """
    return Program(
        name=node,
        # Isolated: neither PYTHONPATH nor the directory that the mesh was started in brings other code.
        argv=own.argv if own else (sys.executable, "-I", "-m", f"services.{node}.main"),
        directory=own.folder if own else None,
        log=log,
        healthy=health,
        lacks=lambda: health.lacks,
        environment={"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
        | dict(environment)
        | {"NODE": node, "SOCKET": str(socket)},
        address=f"unix:{socket}",
        before_start=lambda: socket.unlink(missing_ok=True),
        grace=10,
    )
