"""An Envoy: the sidecar of a service, or the edge."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from mesh.local import probes
from mesh.local.infra import Infra
from mesh.local.process import Program
from mesh.operator.errors import explain
from mesh.operator.secret_file import private_directory, write_private
from mesh.render.envoy import BOOTSTRAP_FILE, arguments


def program(
    infra: Infra,
    name: str,
    files: Mapping[str, str],
    config: Path,
    admin_socket: Path,
    log: Path,
    *,
    address: str,
    sockets: tuple[Path, ...] = (),
) -> Program:
    """Writes its configuration.

    Args:
        infra: Where the binary is.
        name: Name in the process table.
        files: Rendered configuration; `bootstrap.yaml` is the entrance.
        config: Directory for them.
        admin_socket: Where it can be asked whether it is ready.
        log: Its log file.
        address: Where it listens, for people.
        sockets: Unix sockets that it makes: removed before each start.

    Raises:
        OperatorError: there is no Envoy, or the files can't be written.
    """
    private_directory(config)
    try:
        for old in config.iterdir():
            if old.name not in files:
                old.unlink()
    except OSError as error:
        raise explain(error, f"write Envoy's configuration to {config}") from None
    for file, text in files.items():
        write_private(config / file, text.encode())

    async def healthy() -> bool:
        return await probes.http_ok(admin_socket, "/ready")

    def remove_sockets() -> None:
        for socket in (admin_socket, *sockets):
            socket.unlink(missing_ok=True)

    return Program(
        name=name,
        # One worker: the machine is shared by all of the mesh.
        argv=(str(infra.envoy), *arguments(str(config / BOOTSTRAP_FILE), workers=1)),
        log=log,
        healthy=healthy,
        environment={"PATH": os.defpath},
        address=address,
        directory=config,
        before_start=remove_sockets,
        grace=5,
    )


async def unhealthy_upstreams(admin_socket: Path) -> list[str]:
    """Names of the clusters that have no host which passes its health checks.

    All of them when Envoy does not answer.
    """
    answer = await probes.http_get(admin_socket, "/clusters?format=json")
    if answer is None or answer[0] != 200:
        return ["?"]
    unhealthy = []
    for cluster in json.loads(answer[1]).get("cluster_statuses", []):
        statuses = [host.get("health_status", {}) for host in cluster.get("host_statuses", [])]
        if not any(status.get("eds_health_status") == "HEALTHY" and len(status) == 1 for status in statuses):
            unhealthy.append(str(cluster["name"]))
    return unhealthy
