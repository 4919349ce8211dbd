"""Executes a program that ends when the process that started it is killed.

`tether.py PARENT SIGNAL UID:GID|- PROGRAM ARG…`.

A script of its own, run with `python -I -S`, because the alternative (`preexec_fn`) runs Python between fork and exec
of a threaded process. The signal has to be asked for after the change of account: that change resets it (prctl(2),
PR_SET_PDEATHSIG).
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, number: int, account: str, argv: list[str]) -> None:
    """Becomes the program. Does not return."""
    if account != "-":
        uid, gid = map(int, account.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        # Our starter may have died before the request was made.
        if os.getppid() != parent:
            sys.exit(1)
    try:
        os.execv(argv[0], argv)
    except OSError as error:
        sys.exit(f"cannot execute {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
