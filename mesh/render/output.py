"""Writes rendered files to a directory that holds nothing else."""

from pathlib import Path

from mesh.render.renderer import Files

MARK = ".authmesh-rendered"
"""In a directory that was written here: what is in it may be replaced."""


class OutputError(Exception):
    """The directory can't take the files. The message says why, and what to do."""


def write(files: Files, directory: Path) -> int:
    """Replaces what an earlier run wrote.

    Returns:
        The number of files.

    Raises:
        OutputError: the directory holds files that were not written here, or can't be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        present = [path for path in directory.rglob("*") if path.is_file()]
        if present and not (directory / MARK).exists():
            raise OutputError(f"{directory} holds other files: name an empty directory, or a new one")
        for path in present:
            path.unlink()
        (directory / MARK).write_text("Written by `authmesh mesh render`, which replaces everything here.\n")
        for name, text in files.items():
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    except OSError as error:
        raise OutputError(f"{error.filename or directory} can't be written: {error.strerror}") from error
    return len(files)
