"""Where commands find the trail: a copy on disk, a bucket that was named, or the mesh that runs on this machine."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from mesh.operator import terminal
from mesh.operator.errors import OperatorError
from mesh.operator.target import Target

FAILED = 2
"""Exit status: it could not be done."""

BucketOption = Annotated[
    str | None,
    typer.Option(envvar="AUDIT_BUCKET", help="The bucket of the trail; by default that of the mesh that runs here."),
]
CopyOption = Annotated[
    Path | None,
    typer.Option(
        exists=True, file_okay=False, help="A copy of the bucket on disk (`aws s3 sync`), instead of the bucket."
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        envvar="AUDIT_PUBLIC_KEY",
        help="The pinned public key of checkpoints, PEM; by default the one that the local mesh pinned.",
    ),
]
AcknowledgementKeyOption = Annotated[
    Path | None,
    typer.Option(
        envvar="AUDIT_ACKNOWLEDGEMENT_PUBLIC_KEY",
        help=(
            "The pinned public key of acknowledgements, PEM; by default the one that the local "
            "mesh pinned, where --key is its."
        ),
    ),
]


@dataclass(frozen=True, slots=True)
class Account:
    """An AWS account with a trail in it."""

    bucket: str
    client: Callable[..., AbstractAsyncContextManager[Any]]
    """Opens a client of one API, by botocore's name of it."""
    is_local: bool
    """Whether it is that of the mesh that runs on this machine."""


def account(bucket: str | None, endpoint_url: str | None) -> Account:
    """The account of the bucket that was named, or of the mesh that runs here.

    Raises:
        OperatorError: there is neither.
    """
    target = Target()
    try:
        aws = target.aws(endpoint_url, named=bucket is not None)
    except OperatorError as error:
        raise OperatorError(f"{error}; or name a bucket with --bucket") from None
    if bucket is None:
        found = target.status()
        bucket = found.audit_bucket
        if not bucket:
            raise OperatorError(
                f"the mesh is {found.state} and has no bucket yet: wait until `authmesh status` says ready"
            )
    return Account(bucket, aws.client, is_local=aws.is_local)


@asynccontextmanager
async def bucket_of(account: Account) -> AsyncIterator[Any]:
    """Its bucket, to be read."""
    from services.audit.trail import archive

    config: dict[str, Any] = {
        "max_pool_connections": archive.READS_AHEAD,
        "retries": {"mode": "standard", "total_max_attempts": 5},
    }
    async with account.client("s3", **config) as s3:
        yield archive.Bucket(s3, account.bucket)


@asynccontextmanager
async def archive(directory: Path | None, bucket: str | None, endpoint_url: str | None) -> AsyncIterator[Any]:
    """A copy of the bucket where one was named, else the bucket."""
    if directory is not None:
        from services.audit.trail.archive import LocalArchive

        yield LocalArchive(directory)
        return
    async with bucket_of(account(bucket, endpoint_url)) as opened:
        yield opened


def keys(key: Path | None, acknowledgement_key: Path | None) -> tuple[Any, Any]:
    """The pinned keys of checkpoints and of acknowledgements; for the latter None when none is known."""
    home = Target().home
    if acknowledgement_key is None and key is None and home.acknowledgement_key.exists():
        acknowledgement_key = home.acknowledgement_key
    return _pinned(key or home.audit_key, "--key"), _pinned(
        acknowledgement_key, "--acknowledgement-key"
    ) if acknowledgement_key else None


def _pinned(file: Path, option: str) -> Any:
    from services.audit.proof.statement import PinnedKey, StatementError

    try:
        return PinnedKey(file.read_bytes())
    except OSError as error:
        fail(f"the pinned public key can't be read: {file}: {error.strerror}. Name it with {option}")
    except StatementError as error:
        fail(f"{file}: {error}")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Carries out what a command does; ends with a line that says why where it can't be done."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return asyncio.run(work)
    except OperatorError as error:
        fail(str(error))
    except (BotoCoreError, ClientError, OSError) as error:
        fail(f"the trail can't be read: {error}")


@contextmanager
def bar(unit: str = "events") -> Iterator[Any]:
    """A progress bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(unit), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as drawn:
        task = drawn.add_task(unit, total=None)

        def progress(count: int, total: int) -> None:
            drawn.update(task, advance=count, total=total or None)

        yield progress


def fail(message: str) -> NoReturn:
    """Ends the command."""
    terminal.fail(message, FAILED)
