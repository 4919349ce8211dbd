"""The directory of a local mesh (`mesh.operator.state_dir`), as its runner uses it."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from mesh.operator.errors import OperatorError, explain
from mesh.operator.secret_file import private_directory
from mesh.operator.state_dir import StateDir

ROOM_AT_FIRST = 300
ROOM_LATER = 60
"""MiB that have to be free to start: for a new database and its first log segments, and for one that is there."""


def prepare(home: StateDir) -> None:
    """Makes the directories.

    Raises:
        OperatorError: they can't be made or written, or there is too little room.
    """
    for directory in (home.path, home.secrets, home.logs):
        private_directory(directory)
    try:
        if home.path.stat().st_uid == os.geteuid():
            home.path.chmod(0o700)
        probe = home.path / ".writable"
        probe.write_bytes(b"1")
        probe.unlink()
        free = shutil.disk_usage(home.path).free // 2**20
    except OSError as error:
        raise explain(error, f"write to {home.path}") from None
    needed = ROOM_LATER if (home.path / "postgres" / "data").exists() else ROOM_AT_FIRST
    if free < needed:
        raise OperatorError(
            f"{home.path} has {free} MiB left and the mesh needs {needed}: free some, or set "
            f"AUTHMESH_HOME to a directory on another device"
        )


def rotate_logs(home: StateDir) -> None:
    """Keeps the logs of the run before as `<name>.log.1`, and no older ones."""
    for log in home.logs.glob("*.log"):
        log.rename(log.with_name(log.name + ".1"))


@contextmanager
def locked(home: StateDir) -> Iterator[None]:
    """Holds the mesh's lock for a block: one mesh for one directory. The system gives it back when we are killed.

    Raises:
        OperatorError: another mesh holds it.
    """
    file = home.path / "lock"
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
            raise OperatorError(
                f"a mesh runs in {home.path} already (pid {holder}): `authmesh status` shows "
                f"it; stop it, or set AUTHMESH_HOME for a second one"
            ) from None
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield
