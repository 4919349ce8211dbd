"""`status.json`: what a local mesh says about itself, for scripts and for commands.

The runner writes it anew at every change.
"""

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mesh.operator.errors import OperatorError
from mesh.operator.identity import Identity
from mesh.operator.state_dir import place


class State(StrEnum):
    """Of the mesh as a whole."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


class Health(StrEnum):
    """Of a process."""

    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class Demo(BaseModel):
    """The demo user. Of this machine only, with a random password."""

    model_config = ConfigDict(frozen=True)

    email: str
    password: str
    client_id: str


class Row(BaseModel):
    """One process."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int | None
    """None between death and restart."""
    address: str
    health: Health
    lacks: tuple[str, ...] = ()
    """Subsystems that it says it waits for: `database`, `keys`."""
    restarts: int


class Runner(BaseModel):
    """The process that watches the others."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: str
    place: str
    """Of the directory: the status in a copy of it tells of another mesh."""


class Status(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True)

    state: State
    edge: str | None = None
    ca_file: str | None = None
    aws_endpoint_url: str | None = None
    audit_bucket: str | None = None
    observed: dict[str, str] = {}
    """Where probes and metrics of each node are: `http://127.0.0.1:<port>`."""
    traces: str | None = None
    """The page of traces: `http://127.0.0.1:<port>`."""
    demo: Demo | None = None
    processes: tuple[Row, ...] = ()
    startup_seconds: float | None = None
    """From the command to the first moment when all was healthy."""
    memory_pss_mb: int | None = None
    """Of all processes, the runner included, when the mesh became ready. Shared pages are counted once (PSS)."""
    error: str | None = None
    """Why it failed."""
    runner: Runner | None = None


def read_status(file: Path) -> Status:
    """The status of the mesh that runs.

    Raises:
        OperatorError: none runs: never started, stopped, failed, or killed.
    """
    try:
        status = Status.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise OperatorError(f"no mesh runs in {file.parent}: `make run-mesh` starts one") from None
    except PermissionError:
        raise OperatorError(
            f"{file} belongs to another account: only the one that started the mesh may read it"
        ) from None
    except (OSError, ValidationError):
        raise OperatorError(f"{file} can't be read: start the mesh again with `make run-mesh`") from None
    if status.state is State.FAILED:
        raise OperatorError(f"the mesh in {file.parent} failed: {status.error}")
    runner = status.runner
    if runner is not None and runner.place != place(file.parent):
        raise OperatorError(
            f"no mesh runs in {file.parent} (it was copied from another place): `make run-mesh` starts one"
        )
    if runner is None or not Identity(runner.pid, runner.started).alive():
        raise OperatorError(f"no mesh runs in {file.parent} (the last one was killed): `make run-mesh` starts one")
    return status
