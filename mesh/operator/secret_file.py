"""Secrets of the local mesh: made at random once, kept in files that only their owner may read."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from mesh.operator.errors import explain


def write_private(file: Path, content: bytes) -> None:
    """Writes a file of mode 0600, whole or not at all.

    Raises:
        OperatorError: it can't be written.
    """
    new = file.with_name(f".{file.name}.new")
    try:
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        new.replace(file)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise explain(error, f"write {file}") from None


def private_directory(path: Path) -> Path:
    """The directory, made with mode 0700 if it is missing.

    Raises:
        OperatorError: it can't be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, f"make the directory {path}") from None
    return path


def load_or_create(file: Path, make: Callable[[], bytes]) -> bytes:
    """The secret in the file; made and written first if there is none.

    Raises:
        OperatorError: it can't be read or written.
    """
    try:
        return file.read_bytes()
    except FileNotFoundError:
        secret = make()
        write_private(file, secret)
        return secret
    except OSError as error:
        raise explain(error, f"read {file}") from None


def load_or_create_password(file: Path) -> str:
    """The password in the file.

    192 random bits in letters, digits, `-` and `_`, so that it needs no quoting anywhere.
    """
    return load_or_create(file, lambda: secrets.token_urlsafe(24).encode()).decode()
