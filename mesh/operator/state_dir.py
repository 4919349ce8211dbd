"""The directory where a local mesh keeps everything: `.mesh` by default."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def place(directory: Path) -> str:
    """Which directory it is.

    The same after a move, another one for a copy (whose files tell of processes that are not its own).
    """
    try:
        found = directory.stat()
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


@dataclass(frozen=True, slots=True)
class StateDir:
    """Paths below one directory. Nothing of a mesh is elsewhere, but its sockets."""

    path: Path

    @classmethod
    def chosen(cls, environment: Mapping[str, str] = os.environ) -> "StateDir":
        """The directory that `AUTHMESH_HOME` names; `.mesh` of the project by default."""
        return cls(Path(environment.get("AUTHMESH_HOME") or PROJECT / ".mesh").absolute())

    @property
    def status(self) -> Path:
        """What the mesh says about itself: see `mesh.operator.status`."""
        return self.path / "status.json"

    @property
    def journal(self) -> Path:
        """The processes that were started."""
        return self.path / "processes"

    @property
    def memory(self) -> Path:
        """What has to be the same after a restart: see `mesh.local.persisted_state`."""
        return self.path / "memory.json"

    @property
    def contract(self) -> Path:
        """The contract with that of a service of one's own, where the mesh has one."""
        return self.path / "contract.binpb"

    @property
    def placements(self) -> Path:
        """Where the Envoys are: see `mesh.local.apply`."""
        return self.path / "placements.json"

    @property
    def secrets(self) -> Path:
        """Passwords and keys."""
        return self.path / "secrets"

    @property
    def database_urls(self) -> Path:
        """Addresses of the services' databases, while the mesh runs."""
        return self.secrets / "databases.json"

    @property
    def aws_environment(self) -> Path:
        """The AWS account as variables, for shells and commands: endpoint, region, access key."""
        return self.secrets / "aws.env"

    @property
    def logs(self) -> Path:
        """One file for each process, and one for each sidecar's calls."""
        return self.path / "logs"

    @property
    def inbox(self) -> Path:
        """Messages to people, JSON lines."""
        return self.path / "inbox.jsonl"

    @property
    def ca_file(self) -> Path:
        """Certificate to trust when calling the edge."""
        return self.path / "ca.crt"

    @property
    def audit_key(self) -> Path:
        """The public key that `authmesh audit verify` believes, in PEM.

        Written once: a key that changes must not go unnoticed.
        """
        return self.path / "audit-checkpoints.pub.pem"

    @property
    def acknowledgement_key(self) -> Path:
        """The public key that it believes acknowledgements of its findings from, written once as well."""
        return self.path / "audit-acknowledgements.pub.pem"

    def log(self, name: str) -> Path:
        """Log file of a process."""
        return self.logs / f"{name}.log"
