"""`authmesh audit`: prove the trail, follow it, export it, make its projection again; `redrive` and `reveal` are modules of their own.

Exit status of `verify`: 0 intact, 1 something was found, 2 it could not be verified. Of `export`: 0 all of it, 1 something was left out, 2 it failed.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from mesh.local.errors import LocalMeshError
from mesh.local.home import Home
from mesh.local.status import read_status
from services.audit import redrive, reveal

FOUND, FAILED = 1, 2
SHOWN = 20
"""Findings that are printed."""

commands = typer.Typer(no_args_is_help=True, help="Prove, follow, export and rebuild the audit trail.")
commands.command("redrive")(redrive.command)
commands.command("reveal")(reveal.command)

Bucket = Annotated[str | None, typer.Option(envvar="AUDIT_BUCKET", help="The bucket of the trail; by default that of the mesh that runs here.")]
Endpoint = Annotated[str | None, typer.Option(envvar="AWS_ENDPOINT_URL", help="Where the AWS APIs are, if not in AWS.")]
Copy = Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="A copy of the bucket on disk (`aws s3 sync`), instead of the bucket.")]


class Format(StrEnum):
    """What the trail can be exported as."""

    PARQUET = "parquet"


@commands.callback()
def _group() -> None:
    """Prove, follow, export and rebuild the audit trail."""


@commands.command()
def verify(
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S"], help="Begin with the last checkpoint before this time (UTC)."),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only this source's chain: auth, token, user, resource, audit.")] = None,
    key: Annotated[
        Path | None, typer.Option(envvar="AUDIT_PUBLIC_KEY", help="The pinned public key, PEM; by default the one that the local mesh pinned.")
    ] = None,
    directory: Copy = None,
    at: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%dT%H:%M:%SZ"], help="When the copy was made (UTC): what may be overdue is judged by it.")
    ] = None,
    bucket: Bucket = None,
    endpoint_url: Endpoint = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Prove that no event of the trail was deleted, changed, reordered or cut off. Needs the objects and one public key, and nothing else."""
    from services.audit.checkpoints import CheckpointError, PinnedKey
    from services.audit.verification import verify as verify_trail

    home = Home.chosen()
    key_file = key or home.audit_key
    try:
        pinned = PinnedKey(key_file.read_bytes())
    except OSError as error:
        _fail(f"the pinned public key can't be read: {key_file}: {error.strerror}. Name it with --key")
    except CheckpointError as error:
        _fail(f"{key_file}: {error}")

    async def work() -> Any:
        with _bar() as progress:
            async with _archive(directory, bucket, endpoint_url) as archive:
                return await verify_trail(archive, pinned, since=_utc(since), source=source, now=_utc(at), progress=progress)

    _show(_run(work()), pinned.fingerprint, as_json=as_json)


@commands.command()
def tail(
    event_type: Annotated[str, typer.Option("--type", help="Only events of this type: token.reuse_detected.")] = "",
    token: Annotated[
        str | None, typer.Option(envvar="AUTHMESH_TOKEN", help="Access token with the scope admin:audit; `-` reads it from standard input.")
    ] = None,
    resume_token: Annotated[str, typer.Option("--after", help="Continue behind the message that carried this resume token.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line: event and resume token.")] = False,
) -> None:
    """Follow the events as they are recorded, through the edge."""
    import json
    import signal

    found = _status()
    if not found.edge or not found.ca_file:
        _fail(f"the mesh is {found.state} and has no edge yet: wait until `authmesh status` says ready")
    from mesh.calling import CallError, call, find_rpc, parse_request
    from mesh.contract import Contract

    if token == "-":
        token = sys.stdin.read().strip()
    contract = Contract.load()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        rpc = find_rpc(contract, "AuditService/WatchEvents")
        request = parse_request(contract, rpc, json.dumps({"type": event_type, "resumeToken": resume_token}))
        for line in call(contract, rpc, request, target=found.edge.removeprefix("https://"), ca_file=Path(found.ca_file), token=token):
            if as_json:
                print(line, flush=True)
            elif event := json.loads(line).get("event"):
                print(one_line(event), flush=True)
    except CallError as error:
        _fail(str(error))


@commands.command()
def rebuild(
    bucket: Bucket = None,
    endpoint_url: Endpoint = None,
) -> None:
    """Make the projection that queries read again from S3. The mesh may run; who watches sees every event again."""
    from mesh.database import Database
    from mesh.errors import MeshError
    from mesh.local.databases import running_url
    from services.audit.follower import Follower
    from services.audit.projection import Projection

    async def work() -> int:
        here = os.environ.get("DATABASE_URL") if os.environ.get("NODE") == "audit" else None
        async with Database.open(here or running_url("audit", os.environ), size=2) as database, _bucket(bucket, endpoint_url) as archive:
            projection = Projection(database)
            await projection.forget()
            with _bar("objects") as progress:
                return await Follower(projection).catch_up(archive, lambda count: progress(count, 0))

    try:
        typer.echo(f"rebuilt from {_run(work())} objects")
    except MeshError as error:
        _fail(str(error))


@commands.command()
def export(
    output: Annotated[Path, typer.Option(file_okay=False, help="Directory for source=…/dt=…/events.parquet; what is there is replaced, day by day.")],
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.PARQUET,
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The first day (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day (UTC).")] = None,
    source: Annotated[str | None, typer.Option(help="Only this source: auth, token, user, resource, audit.")] = None,
    directory: Copy = None,
    bucket: Bucket = None,
    endpoint_url: Endpoint = None,
) -> None:
    """Write the trail as Parquet, each event once, for Athena. It is a copy for reading: prove the trail first, with `verify`."""
    try:
        from services.audit import parquet
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        _fail(f"export as {form} needs pyarrow: {sys.executable} -m pip install pyarrow")

    async def work() -> parquet.Exported:
        days = {"since": since.date() if since else None, "until": until.date() if until else None}
        with _bar("objects") as progress:
            async with _archive(directory, bucket, endpoint_url) as archive:
                return await parquet.export(archive, output, source=source, progress=lambda count: progress(count, 0), **days)

    exported = _run(work())
    for text in exported.left_out:
        typer.echo(f"left out: {text}", err=True)
    if exported.unlisted:
        typer.echo(f"left out: {exported.unlisted} more", err=True)
    typer.echo(f"{exported.events} events in {exported.files} files in {output}")
    raise typer.Exit(FOUND if exported.left_out else 0)


def one_line(event: dict[str, Any]) -> str:
    """An event, from its JSON, as a line for people."""
    facts = [event["eventTime"], f"{event['source']}#{event['sequence']}", event["type"]]
    if event.get("outcome") != "OUTCOME_SUCCESS":
        facts.append(f"FAILED {event.get('reason', '')}".rstrip())
    facts += [f"{name}={event[name]}" for name in ("actor", "subject", "target", "client", "address", "email") if event.get(name)]
    facts += [f"{name}={value}" for name, value in sorted(event.get("detail", {}).items())]
    return "  ".join([*facts, *(["(personal data sealed)"] if event.get("sealed") else [])])


@asynccontextmanager
async def _archive(directory: Path | None, bucket: str | None, endpoint_url: str | None) -> AsyncIterator[Any]:
    """A copy of the bucket where one was named, else the bucket."""
    if directory is not None:
        from services.audit.archive import Directory

        yield Directory(directory)
        return
    async with _bucket(bucket, endpoint_url) as archive:
        yield archive


@asynccontextmanager
async def _bucket(bucket: str | None, endpoint_url: str | None) -> AsyncIterator[Any]:
    """The bucket that was named, or that of the mesh that runs here."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    from mesh.local.aws_account import ANY_KEY, AwsAccount
    from mesh.local.components.aws_emulator import REGION
    from services.audit import archive

    config: dict[str, Any] = {"max_pool_connections": archive.READS_AHEAD, "retries": {"mode": "standard", "total_max_attempts": 5}}
    if bucket is None:
        found = _status()
        if not found.audit_bucket:
            raise LocalMeshError(f"the mesh is {found.state} and has no bucket yet: wait until `authmesh status` says ready")
        async with AwsAccount.running().client("s3", **config) as s3:
            yield archive.Bucket(s3, found.audit_bucket)
        return
    options: dict[str, Any] = {"endpoint_url": endpoint_url}
    if endpoint_url and not os.environ.get("AWS_ACCESS_KEY_ID") and not os.environ.get("AWS_PROFILE"):
        # Somebody's emulator: it takes any.
        options |= {"region_name": REGION} | {name.lower(): value for name, value in ANY_KEY.items()}
    session: Any = get_session()
    async with session.create_client("s3", config=AioConfig(**config), **options) as s3:
        yield archive.Bucket(s3, bucket)


def _run(work: Any) -> Any:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return asyncio.run(work)
    except LocalMeshError as error:
        _fail(str(error))
    except (BotoCoreError, ClientError, OSError) as error:
        _fail(f"the trail can't be read: {error}")


def _status() -> Any:
    try:
        return read_status(Home.chosen().status)
    except LocalMeshError as error:
        _fail(f"{error}; or name a bucket with --bucket")


@contextmanager
def _bar(unit: str = "events") -> Iterator[Any]:
    """A progress bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(unit), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(unit, total=None)

        def progress(count: int, total: int) -> None:
            bar.update(task, advance=count, total=total or None)

        yield progress


def _show(report: Any, fingerprint: str, *, as_json: bool) -> None:
    """Prints a report and ends with its status."""
    if as_json:
        import dataclasses
        import json

        print(json.dumps({"intact": report.intact, "key": fingerprint} | dataclasses.asdict(report), indent=1, default=str))
        raise typer.Exit(0 if report.intact else FOUND)
    for number, finding in enumerate(report.findings[:SHOWN]):
        print(f"{'FIRST: ' if number == 0 else '       '}{finding.kind}: {finding.text}")
    if (more := len(report.findings) + report.unlisted - SHOWN) > 0:
        print(f"       and {more} more: --json lists them")
    for what, items in (("still on its way, perhaps", report.pending), ("parked, a tombstone stands for it", report.parked)):
        for item in items[:SHOWN]:
            print(f"note:  {item}: {what}")
    events, unsigned = sum(report.events.values()), sum(report.unsigned.values())
    chains = ", ".join(f"{source} {count}" for source, count in sorted(report.events.items())) or "no source"
    newest = f"the newest of {report.newest:%Y-%m-%dT%H:%M:%SZ}" if report.newest else "none"
    print(f"{'intact' if report.intact else 'NOT INTACT'}: {events} events ({chains}) in {report.objects} objects; {unsigned} not signed for yet")
    print(f"{report.checkpoints} checkpoints, {newest}; key {fingerprint}")
    raise typer.Exit(0 if report.intact else FOUND)


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None


def _fail(message: str) -> NoReturn:
    typer.echo(f"authmesh: {message}", err=True)
    raise typer.Exit(FAILED)
