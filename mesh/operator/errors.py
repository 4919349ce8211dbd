"""The one error of the local mesh: a sentence for the person at the keyboard."""

import errno


class OperatorError(Exception):
    """Something on this machine is in the way. The message is one line that says what it is and what to do."""


def explain(error: OSError, doing: str) -> OperatorError:
    """Says what an operating system error means for `doing` ("write /x/y"), and what helps."""
    where = f" ({error.filename})" if error.filename and str(error.filename) not in doing else ""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            advice = "no space is left on the device: free some, or set AUTHMESH_HOME to a directory on another one"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            advice = "permission denied: use a directory that you own, or set AUTHMESH_HOME to one"
        case errno.EMFILE | errno.ENFILE:
            advice = "too many open files: raise the limit (`ulimit -n 4096`)"
        case _:
            advice = error.strerror or str(error)
    return OperatorError(f"cannot {doing}{where}: {advice}")
