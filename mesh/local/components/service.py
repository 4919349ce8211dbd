"""A service process: `python -m services.<node>.main`, on a unix socket that only its sidecar dials."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from mesh.local.health import GrpcHealth
from mesh.local.process import Program


def program(node: str, socket: Path, environment: Mapping[str, str], log: Path, health: GrpcHealth) -> Program:
    """Args:
    node: Its name in mesh.yaml.
    socket: Where it serves.
    environment: All of its settings.
    log: Its log file.
    health: Asks on that socket.
    """
    return Program(
        name=node,
        # Isolated: neither PYTHONPATH nor the directory that the mesh was started in brings other code.
        argv=(sys.executable, "-I", "-m", f"services.{node}.main"),
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
