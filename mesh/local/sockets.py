"""Directories for unix sockets.

Below the temporary directory, because a socket's path has at most 107 bytes and projects live deeper.
"""

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from mesh.local.process import Account
from mesh.operator.errors import OperatorError, explain

PATH_LIMIT = 107
LONGEST_NAME = 40
"""Bytes kept for the names of sockets."""


def socket_directory(owner: Path, suffix: str = "", account: Account | None = None, mode: int = 0o700) -> Path:
    """A fresh, empty directory that belongs to `owner` (the mesh's home).

    Always the same path for the same owner, so that a start clears what a killed run left in it.

    Raises:
        OperatorError: the temporary directory is too deep, or something of someone else has that name.
    """
    name = (
        "authmesh-" + hashlib.sha256(b"%d %s" % (os.geteuid(), os.fsencode(owner.resolve()))).hexdigest()[:12] + suffix
    )
    path = Path(tempfile.gettempdir()) / name
    if len(os.fsencode(path)) + 1 + LONGEST_NAME > PATH_LIMIT:
        path = Path("/tmp") / name
    try:
        remove(path)
        path.mkdir(mode=0o700)
        if account:
            os.chown(path, account.uid, account.gid)
        if mode != 0o700:
            path.chmod(mode)
    except OSError as error:
        raise explain(error, f"make the directory {path} for sockets") from None
    return path


def remove(path: Path) -> None:
    """Removes such a directory, if it is one and ours to remove.

    Raises:
        OperatorError: the name belongs to someone else.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode) or (os.geteuid() != 0 and found.st_uid != os.geteuid()):
        raise OperatorError(f"{path} belongs to another user: remove it, or set TMPDIR to a directory of your own")
    shutil.rmtree(path)
