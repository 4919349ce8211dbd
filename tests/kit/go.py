"""Go, where a test builds something with it."""

import shutil


class MissingError(Exception):
    """Something that a test needs is not there: what, in one line."""


def go() -> str:
    """The command.

    Raises:
        MissingError: there is none.
    """
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        raise MissingError("there is no Go, which builds what this test needs")
    return found
