"""`authmesh aws`: the stacks of `deploy/aws/` in an account."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mesh.cloudformation.change import Action, Change
from mesh.cloudformation.cost import Cost, cost
from mesh.cloudformation.locks import kept, locks
from mesh.cloudformation.stacks import NEEDED, OPTIONAL, TEMPLATES, Stack, StackError, chosen
from mesh.cloudformation.template import TemplateError
from mesh.model.mesh import load_mesh
from mesh.operator import terminal

commands = typer.Typer(
    no_args_is_help=True, help="The mesh in an AWS account: plan, deploy, status, settings, destroy."
)

_COLORS = {
    Action.ADD: "green", Action.IMPORT: "green", Action.MODIFY: "yellow", Action.MAYBE_REPLACE: "bold red",
    Action.REPLACE: "bold red", Action.REMOVE: "bold red", Action.KEEP: "cyan",
}  # fmt: skip
OVERLAY = Path("deploy/kubernetes/overlays/eks")
TELL_SECONDS = 30
"""Between two lines about a stack that takes long, where there is no terminal."""

Names = Annotated[list[str] | None, typer.Argument(metavar="[STACK]...", help="`network`, `data`...; all by default.")]
Region = Annotated[str | None, typer.Option(help="Region; by default AWS_REGION, or the profile's.")]
Templates = Annotated[Path, typer.Option(help="The folder deploy/aws of a checkout.", show_default=False)]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Value of a parameter; may be repeated."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


@commands.callback()
def _group() -> None:
    """The mesh in an AWS account: plan, deploy, status, settings, destroy."""


@commands.command()
def plan(
    names: Names = None, parameter: Parameters = None, region: Region = None, templates: Templates = TEMPLATES
) -> None:
    """Show what a deployment would make, change or replace, and what that costs a month. Changes nothing."""
    stacks = _ready(names, parameter, templates, complain=False)

    async def show(aws: "_Aws") -> None:
        _cost_table(cost(stacks))
        for stack in stacks:
            found = await aws.deployment.plan(stack)
            try:
                _show(stack.name, found.changes, is_new=found.is_new)
            finally:
                await aws.deployment.forget(found)

    _run(region, show)


@commands.command()
def deploy(
    names: Names = None,
    parameter: Parameters = None,
    yes: Yes = False,
    region: Region = None,
    templates: Templates = TEMPLATES,
) -> None:
    """Make the stacks, or change them to what the templates say. What may be lost is asked for, stack by stack."""
    stacks = _ready(names, parameter, templates, complain=True)

    async def do(aws: "_Aws") -> None:
        _cost_table(cost(stacks))
        if not yes and not _confirmed(f"Deploy {len(stacks)} stacks to {aws.place}?"):
            _fail("nothing was changed")
        for stack in stacks:
            found = await aws.deployment.plan(stack)
            if not found.is_new and not found.changes:
                _print(f"{stack.name}: as it should be")
                await aws.deployment.forget(found)
                continue
            if not found.is_new:
                _show(stack.name, found.changes, is_new=False)
            is_dangerous = any(change.is_dangerous for change in found.changes)
            if (
                is_dangerous
                and not yes
                and not _confirmed(f"{stack.name}: what is replaced or deleted may be lost. Go on?")
            ):
                await aws.deployment.forget(found)
                _fail(f"{stack.name} was not changed; the stacks before it were")
            with _progress(stack.name) as progress:
                made, left_out = await aws.deployment.apply(found, progress)
            if left_out:
                _print(f"  left out, as the emulator does not have it: {', '.join(left_out)}", style="dim")
            for name, value in sorted(made.outputs.items() if made else ()):
                _print(f"  {name} = {value}")

    _run(region, do)


@commands.command()
def status(names: Names = None, region: Region = None, templates: Templates = TEMPLATES) -> None:
    """Show how the stacks stand, and their outputs."""
    stacks = _chosen(names, None, templates)

    async def show(aws: "_Aws") -> None:
        table = Table(box=None, pad_edge=False)
        for heading in ("STACK", "STATUS", "CHANGED", "LOCKED"):
            table.add_column(heading)
        found = [(stack, await aws.deployment.find(stack)) for stack in stacks]
        for stack, one in found:
            if one is None:
                table.add_row(stack.name, Text("not there", style="dim"))
            else:
                color = "green" if one.is_good else "yellow" if one.status.endswith("_IN_PROGRESS") else "bold red"
                table.add_row(stack.name, Text(one.status, style=color), one.changed, "yes" if one.protected else "no")
        _console().print(table)
        for stack, one in found:
            for name, value in sorted(one.outputs.items() if one else ()):
                _print(f"{stack.name}.{name} = {value}")
            if one and one.reason and not one.is_good:
                _print(f"{stack.name}: {one.reason}")

    _run(region, show)


@commands.command()
def settings(
    out: Annotated[Path, typer.Option(file_okay=False, help="The overlay that gets them.")] = OVERLAY,
    region: Region = None,
    templates: Templates = TEMPLATES,
) -> None:
    """Write what services read from their environment on Kubernetes, from the outputs of the stacks.

    Files for deploy/kubernetes/overlays/eks (docs/kubernetes.md). They name secrets and hold none.
    """
    stacks = _chosen(NEEDED, None, templates)
    nodes = tuple(load_mesh().nodes)

    async def show(aws: "_Aws") -> None:
        from mesh.cloudformation.settings import settings

        found = [(stack, await aws.deployment.find(stack)) for stack in stacks]
        try:
            files = settings([(stack, one.outputs if one else {}) for stack, one in found], nodes, aws.region)
        except StackError as error:
            _fail(str(error))
        for name, text in files.items():
            file = out / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            _print(f"{file}: {', '.join(line.partition('=')[0] for line in text.splitlines()) or 'nothing'}")

    _run(region, show)


@commands.command()
def destroy(names: Names = None, yes: Yes = False, region: Region = None, templates: Templates = TEMPLATES) -> None:
    """Delete the stacks, the last first. Says what stays and what is locked, and asks."""
    stacks = _chosen(names, None, templates)

    async def do(aws: "_Aws") -> None:
        there = [
            Stack(stack.short_name, stack.template, found.parameters)
            for stack in reversed(stacks)
            if (found := await aws.deployment.find(stack)) is not None
        ]
        if not there:
            _fail(f"there is nothing to destroy in {aws.place}")
        for stack in there:
            _print(f"{stack.name}: {len(stack.template.made(stack.parameters))} resources", style="bold")
            if staying := kept(stack):
                _print(f"  stays in the account, and costs on: {', '.join(staying)}", style="cyan")
            for lock in locks(stack):
                _print(f"  locked: {lock}", style="yellow")
        if (
            not yes
            and typer.prompt(f"To destroy this in {aws.place}, type authmesh", default="", show_default=False)
            != "authmesh"
        ):
            _fail("nothing was destroyed")
        for stack in there:
            with _progress(stack.name) as progress:
                await aws.deployment.destroy(stack, progress)

    _run(region, do)


def _chosen(names: Sequence[str] | None, parameters: Sequence[str] | None, templates: Path) -> list[Stack]:
    given = {}
    for one in parameters or ():
        name, equals, value = one.partition("=")
        if not equals:
            _fail(f"--parameter {one}: it is NAME=VALUE")
        given[name] = value
    try:
        return chosen(names or (), given, folder=templates)
    except (StackError, TemplateError) as error:
        _fail(str(error))


def _ready(
    names: Sequence[str] | None, parameters: Sequence[str] | None, templates: Path, *, complain: bool
) -> list[Stack]:
    """The stacks that have what they need."""
    ready = []
    for stack in _chosen(names, parameters, templates):
        missing = stack.template.missing(stack.parameters)
        if missing and stack.short_name in OPTIONAL and not names:
            _print(f"{stack.name}: left out; it needs {' and '.join(missing)}", style="dim")
        elif missing and complain:
            _fail(
                f"{stack.name} needs {' and '.join(missing)}: add -p {missing[0]}=VALUE, or name the stacks to deploy"
            )
        else:
            ready.append(stack)
    return ready


def _show(name: str, changes: Sequence[Change], *, is_new: bool) -> None:
    if not changes:
        _print(f"{name}: no changes")
        return
    if is_new:
        _print(f"{name}: new, {len(changes)} resources", style="bold")
    else:
        counts = {action: sum(change.action is action for change in changes) for action in Action}
        _print(
            f"{name}: " + ", ".join(f"{count} to {action}" for action, count in counts.items() if count), style="bold"
        )
    for change in changes:
        _print(f"  {change}", style=_COLORS[change.action])


def _cost_table(found: Cost) -> None:
    _print(
        f"Cost a month at list prices of {found.region}, {found.date}; what is paid by use comes on top", style="bold"
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("STACK")
    table.add_column("WHAT")
    table.add_column("NUMBER", justify="right")
    table.add_column("USD A MONTH", justify="right")
    for line in found.lines:
        table.add_row(line.stack, line.what, f"{line.quantity:g}", f"{line.dollars_a_month:,.2f}")
    table.add_row("", "together", "", f"{found.dollars_a_month:,.2f}", style="bold")
    for use in found.used:
        table.add_row(use.stack, use.what, "by use", f"{use.dollars:g} each", style="dim")
    _console().print(table)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal, elsewhere a line now and then."""
    if not sys.stdout.isatty():
        told = time.monotonic()

        def tell(done: int, total: int, last: str) -> None:
            nonlocal told
            if time.monotonic() - told >= TELL_SECONDS:
                told = time.monotonic()
                _print(f"{name}: {done} of {total}, {last}")

        yield tell
        _print(f"{name}: done")
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[last]}"),
    )
    with Progress(*columns, console=_console()) as bars:
        task = bars.add_task(name, total=None, last="")

        def advance(done: int, total: int, last: str) -> None:
            bars.update(task, completed=done, total=total or None, last=terminal.escaped(last))

        yield advance
        bars.update(task, total=1, completed=1, last="done")


def _confirmed(question: str) -> bool:
    return typer.confirm(question, default=False)


def _console() -> Console:
    """Colours on a terminal only; rich heeds NO_COLOR."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def _print(text: str, *, style: str = "") -> None:
    _console().print(Text(terminal.escaped(text), style=style), soft_wrap=True)


def _fail(message: str) -> NoReturn:
    terminal.lines(f"authmesh: {message}", error=True)
    raise typer.Exit(1)


@dataclass(frozen=True)
class _Aws:
    """The account that the credentials lead to."""

    deployment: Any
    region: str
    account: str
    emulated: bool

    @property
    def place(self) -> str:
        """For people."""
        return f"account {self.account}, {self.region}"


def _check_region(region: str | None) -> None:
    """Ends the command when it can't be a region's name."""
    from botocore.exceptions import UnknownRegionError
    from botocore.session import get_session

    found = _region(region)
    try:
        if found is not None:
            get_session().get_partition_for_region(found)
    except UnknownRegionError:
        _fail(f"{found} is not the name of a region: choose another (--region)")


def _region(region: str | None) -> str | None:
    from botocore.session import get_session

    chosen_region: str | None = region or os.environ.get("AWS_REGION") or get_session().get_config_variable("region")
    return chosen_region


def _run(region: str | None, do: Callable[[_Aws], Awaitable[None]]) -> None:
    # A third of a second of imports, for this group only.
    from botocore.exceptions import BotoCoreError, ClientError

    from mesh.cloudformation.errors import AwsError, explained

    async def connected() -> None:
        async with _open(region) as aws:
            await do(aws)

    try:
        _check_region(region)
        asyncio.run(connected())
    except AwsError as error:
        _fail(str(error))
    except (BotoCoreError, ClientError, OSError, TimeoutError) as error:
        _fail(str(explained(error, region=region or os.environ.get("AWS_REGION"))))
    except KeyboardInterrupt:
        _fail("stopped looking; CloudFormation goes on with what it has begun (`authmesh aws status`)")


@asynccontextmanager
async def _open(region: str | None) -> AsyncIterator[_Aws]:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession
    from botocore.exceptions import ClientError

    from mesh.cloudformation.deployment import Deployment

    session: Any = AioSession()
    region = _region(region)
    config = AioConfig(connect_timeout=5, read_timeout=60, retries={"mode": "adaptive", "total_max_attempts": 4})
    emulated = bool(os.environ.get("AWS_ENDPOINT_URL"))
    async with (
        session.create_client("cloudformation", region_name=region, config=config) as cloudformation,
        session.create_client("sts", region_name=region, config=config) as sts,
    ):
        try:
            account = (await sts.get_caller_identity())["Account"]
        except ClientError:
            # The emulator of a local mesh answers for few APIs.
            if not emulated:
                raise
            account = "000000000000"
        yield _Aws(
            Deployment(cloudformation, account=account, region=str(region), emulated=emulated),
            str(region),
            account,
            emulated,
        )
