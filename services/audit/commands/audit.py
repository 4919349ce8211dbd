"""`authmesh audit`.

Prove the trail, follow it, export it, make its projection again; `acknowledge`, `redrive` and `reveal` are modules of
their own.

Exit status of `verify`: 0 intact, 1 something was found, 2 it could not be verified, 3 all that was found was
acknowledged. Of `export`: 0 all of it, 1 something was left out, 2 it failed.
"""

import json
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mesh.operator import terminal
from mesh.operator.errors import OperatorError
from mesh.operator.target import DatabaseUrlOption, EndpointOption, Target
from services.audit.commands import acknowledge, redrive, reveal
from services.audit.commands import trail_location as opened
from services.audit.commands.trail_location import (
    AcknowledgementKeyOption,
    BucketOption,
    CopyOption,
    KeyOption,
    fail,
)
from services.audit.proof.findings import Finding, Report, Verdict

FOUND, KNOWN = 1, 3
STATUS = {Verdict.INTACT: 0, Verdict.NOT_INTACT: FOUND, Verdict.ACKNOWLEDGED: KNOWN}
REMARKS = {"STANDING_PENDING": "NOT CHAINED YET", "STANDING_OFF_CHAIN": "FORGED"}
SHOWN = 20
"""Findings that are printed."""

commands = typer.Typer(no_args_is_help=True, help="Prove, follow, export and rebuild the audit trail.")
commands.command("acknowledge")(acknowledge.command)
commands.command("redrive")(redrive.command)
commands.command("reveal")(reveal.command)


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
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S"],
            help="Begin with the last checkpoint before this time (UTC).",
        ),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only this source's chain: the name of a service, `auth`.")] = None,
    key: KeyOption = None,
    acknowledgement_key: AcknowledgementKeyOption = None,
    directory: CopyOption = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%SZ"], help="When the copy was made (UTC): what may be overdue is judged by it."
        ),
    ] = None,
    bucket: BucketOption = None,
    endpoint_url: EndpointOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Prove that no event of the trail was deleted, changed, reordered or cut off.

    Needs the objects and one public key, and nothing else.
    """
    from services.audit.proof.verification import verify as verify_trail

    pinned, believed = opened.keys(key, acknowledgement_key)

    async def work() -> Report:
        with opened.bar() as progress:
            async with opened.archive(directory, bucket, endpoint_url) as archive:
                return await verify_trail(
                    archive,
                    pinned,
                    acknowledgement_key=believed,
                    since=_utc(since),
                    source=source,
                    now=_utc(at),
                    progress=progress,
                )

    _show(opened.run(work()), pinned.fingerprint, as_json=as_json)


@commands.command()
def tail(
    event_type: Annotated[str, typer.Option("--type", help="Only events of this type: token.reuse_detected.")] = "",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="AUTHMESH_TOKEN", help="Access token with the scope admin:audit; `-` reads it from standard input."
        ),
    ] = None,
    resume_token: Annotated[
        str, typer.Option("--after", help="Continue behind the message that carried this resume token.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line: event and resume token.")] = False,
) -> None:
    """Follow the events as they are recorded, through the edge."""
    import signal

    try:
        edge = Target().edge()
    except OperatorError as error:
        fail(str(error))
    from mesh.contract import Contract
    from mesh.operator.dynamic_client import CallError, call, find_rpc, parse_request

    if token == "-":
        token = sys.stdin.read().strip()
    contract = Contract.load()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        rpc = find_rpc(contract, "AuditService/WatchEvents")
        request = parse_request(
            contract, rpc, json.dumps({"type": event_type, "resumeToken": resume_token, "showOffChain": True})
        )
        for answer in call(contract, rpc, request, target=edge.address, ca_file=edge.ca_file, token=token):
            if as_json:
                terminal.line(answer)
            elif event := (message := json.loads(answer)).get("event"):
                terminal.line(one_line(event, message.get("standing", "")))
    except CallError as error:
        fail(str(error))


@commands.command()
def rebuild(
    bucket: BucketOption = None,
    endpoint_url: EndpointOption = None,
    database_url: DatabaseUrlOption = None,
) -> None:
    """Make the projection that queries read again from S3. The mesh may run; who watches sees every event again."""
    from mesh.errors import MeshError
    from mesh.storage.database import Database
    from services.audit.reading.projection import Projection
    from services.audit.reading.projector import Projector

    async def work() -> int:
        account = opened.account(bucket, endpoint_url)
        async with (
            Database.open(Target.of("audit", database_url).database_url("audit"), size=2) as database,
            opened.bucket_of(account) as archive,
        ):
            projection = Projection(database)
            await projection.forget()
            with opened.bar("objects") as progress:
                return await Projector(projection).catch_up(archive, lambda count: progress(count, 0))

    try:
        terminal.line(f"rebuilt from {opened.run(work())} objects")
    except MeshError as error:
        fail(str(error))


@commands.command()
def export(
    output: Annotated[
        Path,
        typer.Option(
            file_okay=False,
            help="LocalArchive for source=…/dt=…/events.parquet; what is there is replaced, day by day.",
        ),
    ],
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.PARQUET,
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The first day (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day (UTC).")] = None,
    source: Annotated[str | None, typer.Option(help="Only this source: the name of a service, `auth`.")] = None,
    directory: CopyOption = None,
    bucket: BucketOption = None,
    endpoint_url: EndpointOption = None,
) -> None:
    """Write the trail as Parquet, each event once, for Athena.

    It is a copy for reading: prove the trail first, with `verify`.
    """
    try:
        from services.audit.commands import parquet
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        fail(f"export as {form} needs pyarrow: {sys.executable} -m pip install pyarrow")

    async def work() -> parquet.Exported:
        days = {"since": since.date() if since else None, "until": until.date() if until else None}
        with opened.bar("objects") as progress:
            async with opened.archive(directory, bucket, endpoint_url) as archive:
                return await parquet.export(
                    archive, output, source=source, progress=lambda count: progress(count, 0), **days
                )

    exported = opened.run(work())
    for text in exported.left_out:
        terminal.line(f"left out: {text}", error=True)
    if exported.unlisted:
        terminal.line(f"left out: {exported.unlisted} more", error=True)
    terminal.line(f"{exported.events} events in {exported.files} files in {output}")
    raise typer.Exit(FOUND if exported.left_out else 0)


def one_line(event: dict[str, Any], standing: str = "") -> str:
    """An event, from its JSON, as a line for people."""
    facts = [event["eventTime"], f"{event['source']}#{event['sequence']}", event["type"]]
    if event.get("outcome") != "OUTCOME_SUCCESS":
        facts.append(f"FAILED {event.get('reason', '')}".rstrip())
    facts += [
        f"{name}={_value(event[name])}"
        for name in ("actor", "subject", "target", "client", "address", "email")
        if event.get(name)
    ]
    facts += [f"{name}={_value(value)}" for name, value in sorted(event.get("detail", {}).items())]
    remarks = [REMARKS[standing]] if standing in REMARKS else []
    return "  ".join([*remarks, *facts, *(["(personal data sealed)"] if event.get("sealed") else [])])


def _value(text: str) -> str:
    """Quoted where it could be taken for more than one fact."""
    return json.dumps(text, ensure_ascii=False) if set(text) & set(' "=') else text


def _show(report: Report, fingerprint: str, *, as_json: bool) -> None:
    """Prints a report and ends with its status."""
    if as_json:
        terminal.lines(json.dumps({"key": fingerprint} | report.document(), indent=1))
        raise typer.Exit(STATUS[report.verdict])
    for number, finding in enumerate(report.findings[:SHOWN]):
        terminal.line(f"{'FIRST: ' if number == 0 else '       '}{finding.kind}: {finding.text}{_id(finding)}")
    if (more := len(report.findings) + report.unlisted - SHOWN) > 0:
        terminal.line(f"       and {more} more: --json lists them")
    for item in report.acknowledged[:SHOWN]:
        said = item.acknowledgement
        terminal.line(
            f"known: {item.finding.kind}: {item.finding.text}{_id(item.finding)}: acknowledged by "
            f"{said.by} at {said.time:%Y-%m-%dT%H:%M:%SZ}"
            f" (acknowledgement {said.number}): {said.reason}"
        )
    if (more := len(report.acknowledged) + report.unlisted_acknowledged - SHOWN) > 0:
        terminal.line(f"       and {more} more that are acknowledged: --json lists them")
    for what, items in (
        ("still on its way, perhaps", report.pending),
        ("parked, a tombstone stands for it", report.parked),
    ):
        for text in items[:SHOWN]:
            terminal.line(f"note:  {text}: {what}")
    if report.unjudged:
        terminal.line(
            f"note:  {report.unjudged} acknowledgements count for nothing: name the public key to "
            f"believe them by with --acknowledgement-key"
        )
    events, unsigned = sum(report.events.values()), sum(report.unsigned.values())
    chains = ", ".join(f"{source} {count}" for source, count in sorted(report.events.items())) or "no source"
    newest = f"the newest of {report.newest:%Y-%m-%dT%H:%M:%SZ}" if report.newest else "none"
    verdict = "intact" if report.intact else report.verdict.upper()
    terminal.line(f"{verdict}: {events} events ({chains}) in {report.objects} objects; {unsigned} not signed for yet")
    terminal.line(
        f"{report.checkpoints} checkpoints, {newest}; {report.acknowledgements} acknowledgements; key {fingerprint}"
    )
    raise typer.Exit(STATUS[report.verdict])


def _id(finding: Finding) -> str:
    return f" [{finding.id[:12]}]" if finding.can_be_acknowledged else ""


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None
