"""The directory where a local mesh keeps everything: `.mesh` by default."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mesh.local.errors import LocalMeshError, explain
from mesh.local.infra import PROJECT
from mesh.local.secret_file import private_directory

ROOM_AT_FIRST = 300
ROOM_LATER = 60
"""MiB that have to be free to start: for a new database and its first log segments, and for one that is there."""


def place(directory: Path) -> str:
    """Which directory it is: the same after a move, another one for a copy (whose files tell of processes that are not
    its own).
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
        """What the mesh says about itself: see `mesh.local.status`."""
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
        """The public key that `authmesh audit verify` believes, in PEM. Written once: a key that changes must not go
        unnoticed.
        """
        return self.path / "audit-checkpoints.pub.pem"

    @property
    def acknowledgement_key(self) -> Path:
        """The public key that it believes acknowledgements of its findings from, written once as well."""
        return self.path / "audit-acknowledgements.pub.pem"

    def log(self, name: str) -> Path:
        """Log file of a process."""
        return self.logs / f"{name}.log"

    def prepare(self) -> None:
        """Makes the directories.

        Raises:
            LocalMeshError: they can't be made or written, or there is too little room.
        """
        for directory in (self.path, self.secrets, self.logs):
            private_directory(directory)
        try:
            if self.path.stat().st_uid == os.geteuid():
                self.path.chmod(0o700)
            probe = self.path / ".writable"
            probe.write_bytes(b"1")
            probe.unlink()
            free = shutil.disk_usage(self.path).free // 2**20
        except OSError as error:
            raise explain(error, f"write to {self.path}") from None
        needed = ROOM_LATER if (self.path / "postgres" / "data").exists() else ROOM_AT_FIRST
        if free < needed:
            raise LocalMeshError(
                f"{self.path} has {free} MiB left and the mesh needs {needed}: free some, or set "
                f"AUTHMESH_HOME to a directory on another device"
            )

    def rotate_logs(self) -> None:
        """Keeps the logs of the run before as `<name>.log.1`, and no older ones."""
        for log in self.logs.glob("*.log"):
            log.rename(log.with_name(log.name + ".1"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the mesh's lock for a block: one mesh for one directory. The system gives it back when we are killed.

        Raises:
            LocalMeshError: another mesh holds it.
        """
        file = self.path / "lock"
        try:
            stream = file.open("a+")
        except OSError as error:
            raise explain(error, f"write {file}") from None
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                holder = stream.read().strip() or "unknown"
                raise LocalMeshError(
                    f"a mesh runs in {self.path} already (pid {holder}): `authmesh status` shows "
                    f"it; stop it, or set AUTHMESH_HOME for a second one"
                ) from None
            stream.truncate(0)
            stream.write(f"{os.getpid()}\n")
            stream.flush()
            yield
