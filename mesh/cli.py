"""The `authmesh` command.

Packages add commands by the entry-point group `authmesh.commands`: a Typer app or a function, loaded when it is used.
"""

import os
import re
import signal
import sys
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from mesh.operator import terminal
from mesh.operator.errors import OperatorError

GROUP = "authmesh.commands"
_TRACE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class CommandsOfPackages(TyperGroup):
    """Our own commands, and those of entry points.

    Theirs are imported only when they are named, or when help lists them.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands."""
        return sorted({*super().list_commands(ctx), *_added()})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        own = super().get_command(ctx, cmd_name)
        added = _added()
        return own if own is not None or cmd_name not in added else _loaded(added[cmd_name])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments name. One that was mistyped is told with the nearest, of packages too."""
        names = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in names:
            near = " or ".join(get_close_matches(args[0], names))
            ctx.fail(
                f"{args[0]} is not a command: "
                + (f"did you mean {near}?" if near else f"choose from {', '.join(names)}")
                + (f"did you mean {near}?" if near else f"choose from {', '.join(names)}")
            )
        return super().resolve_command(ctx, args)


def _added() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _loaded(entry: EntryPoint) -> Any:
    try:
        commands = entry.load()
    except (ImportError, AttributeError) as error:
        raise typer.BadParameter(f"{entry.name} can't be loaded from {entry.value}: {error}") from None
    # Below another one, so that it has no options of its own to install completion.
    parent = typer.Typer(add_completion=False)
    if not isinstance(commands, typer.Typer):
        parent.command(entry.name)(commands)
        return get_command(parent)
    parent.add_typer(commands, name=entry.name)
    return get_group(parent).commands[entry.name]


app = typer.Typer(
    cls=CommandsOfPackages,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A secure JWT authentication mesh.",
)


def main() -> None:
    """The entrance: errors that are for the person at the keyboard are one line and exit code 1."""
    try:
        app(prog_name="authmesh")
    except OperatorError as error:
        terminal.fail(str(error))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # The reader of our output has gone (`authmesh inbox | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


@app.command()
def run() -> None:
    """Start the whole mesh on this machine; Ctrl-C stops it.

    EDGE_PORT chooses the public port (8443; 0 for any), EDGE_HOST the name or address that clients call (localhost;
    another one opens the edge to the network), CORS_ORIGINS the web pages that may call, AUTHMESH_HOME where everything
    is kept (.mesh). MESH names a mesh file of a service of yours, which runs with the others. IDENTITY=cognito has
    an emulated Cognito keep the passwords. DATABASE_URL, REDIS_URL
    and AWS_ENDPOINT_URL use servers of yours. Settings of services, such as SIGNING_ALGORITHM, are passed on to them.
    """
    from mesh.local.options import Options
    from mesh.local.run import run as run_mesh
    from mesh.model.agreement import RenderError
    from mesh.operator.state_dir import StateDir

    try:
        run_mesh(StateDir.chosen(), Options.of())
    except RenderError as error:
        terminal.fail(str(error))


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="The whole status as JSON.")] = False) -> None:
    """Show the mesh that runs here."""
    from mesh.operator.state_dir import StateDir
    from mesh.operator.status import read_status

    found = read_status(StateDir.chosen().status)
    if as_json:
        terminal.lines(found.model_dump_json(indent=1, exclude_none=True))
        return
    from rich.console import Console

    from mesh.local.console import table

    up = f", up after {found.startup_seconds} s" if found.startup_seconds else ""
    memory = f", {found.memory_pss_mb} MB (PSS)" if found.memory_pss_mb else ""
    terminal.line(f"{found.state}: {found.edge or 'no edge yet'}{up}{memory}")
    Console(width=None if sys.stdout.isatty() else 200).print(table(found.processes))


Interval = Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")]
Once = Annotated[bool, typer.Option("--once", help="One table, as where there is no terminal.")]


@app.command()
def top(
    interval: Interval = 2.0,
    once: Once = False,
) -> None:
    """Watch the local mesh: calls a second, how long they take, what is refused, and how current each node is."""
    from mesh.model.mesh import load_mesh
    from mesh.operator.samples import Sample
    from mesh.operator.state_dir import StateDir
    from mesh.operator.status import read_status
    from mesh.operator.top import pages, row, table

    def drawn(before: dict[str, Sample | None], after: dict[str, Sample | None]) -> Any:
        return table([row(node, before[node], after[node]) for node in after])

    found = pages(read_status(StateDir.chosen().status).observed, load_mesh().virtual_gateway.name)
    _watch(found, drawn, interval, once=once)


@app.command()
def trace(
    trace_id: Annotated[
        str | None,
        typer.Argument(
            help="A trace id, or the x-request-id of a call; the newest traces without one.", show_default=False
        ),
    ] = None,
) -> None:
    """Show what a call did on its way through the local mesh, and how long each part took.

    Trace ids are in logs and audit events; every answer has its request id.
    """
    import asyncio

    from rich.console import Console

    from mesh.operator.state_dir import StateDir
    from mesh.operator.status import read_status
    from mesh.operator.trace import fetch, listing, table

    address = read_status(StateDir.chosen().status).traces
    if address is None:
        terminal.fail("this mesh keeps no traces: start it again with `make run-mesh`")
    if trace_id is not None and not _TRACE.fullmatch(trace_id):
        terminal.fail("that is not a trace id or a request id: 32 hexadecimal digits, or what x-request-id says")
    found = asyncio.run(fetch(address, trace_id))
    console = Console(width=None if sys.stdout.isatty() else 200)
    if trace_id is None:
        console.print(listing(found) if found else "No call was traced yet.")
        return
    terminal.line(f"{found.name}: {found.status}, {found.milliseconds:,.1f} ms   {address}/traces/{found.id}")
    console.print(table(found))


@app.command()
def inbox(
    email: Annotated[str | None, typer.Option(help="Only messages to this address.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
) -> None:
    """List the messages that were sent to people, newest last."""
    import json

    from mesh.local import inbox as local_inbox
    from mesh.operator.state_dir import StateDir
    from mesh.operator.status import read_status

    home = StateDir.chosen()
    read_status(home.status)
    messages = local_inbox.read(home.inbox, email)
    if as_json:
        terminal.lines(json.dumps([message.model_dump(mode="json") for message in messages], indent=1))
        return
    for message in messages:
        terminal.line(
            f"{message.sent_time:%Y-%m-%dT%H:%M:%SZ}  {message.email}  {message.kind}  {message.code}".rstrip()
        )


@app.command()
def call(
    method: Annotated[
        str,
        typer.Argument(
            metavar="SERVICE/METHOD", help="`ResourceService/GetResource`, or with the service's full name."
        ),
    ],
    request: Annotated[
        str, typer.Argument(metavar="JSON", help="The request; `-` reads it from standard input.")
    ] = "{}",
    token: Annotated[
        str | None,
        typer.Option(envvar="AUTHMESH_TOKEN", help="Access token; `-` reads it from standard input.", show_envvar=True),
    ] = None,
) -> None:
    """Call any RPC through the edge, over gRPC. A stream prints one JSON object a line."""
    from mesh.contract import Contract
    from mesh.operator.target import Target

    target = Target()
    edge = target.edge()
    # After the cheap refusals: grpc takes a third of a second to import.
    from mesh.operator.dynamic_client import CallError, find_rpc, parse_request
    from mesh.operator.dynamic_client import call as call_rpc

    if request == "-":
        request = sys.stdin.read()
    if token == "-":
        token = sys.stdin.read().strip()
    own = target.home.contract
    contract = Contract.read(own) if own.exists() else Contract.load()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        rpc = find_rpc(contract, method)
        message = parse_request(contract, rpc, request)
        for answer in call_rpc(contract, rpc, message, target=edge.address, ca_file=edge.ca_file, token=token):
            terminal.lines(answer)
    except CallError as error:
        terminal.fail(str(error))


mesh_commands = typer.Typer(no_args_is_help=True, help="The mesh as files: check mesh.yaml, and render it.")
app.add_typer(mesh_commands, name="mesh")

MeshFile = Annotated[
    Path | None, typer.Option("--file", help="A mesh.yaml; by default the one of this package.", show_default=False)
]
Issuer = Annotated[str, typer.Option(help="`iss` of access tokens: the address of the edge.")]
Audience = Annotated[str, typer.Option(help="`aud` of access tokens.")]
ENVOY_IMAGE = "envoyproxy/envoy:distroless-v1.40.0"


@mesh_commands.callback()
def _mesh() -> None:
    """The mesh as files: check mesh.yaml, and render it."""


@mesh_commands.command()
def check(file: MeshFile = None) -> None:
    """Check mesh.yaml.

    Its keys, the access rules of the contract, the memory that strangers can take, and every file that an Envoy is
    given, by Envoy itself. Of one that was imported from App Mesh, its keys and its Envoys. Changes nothing.
    """
    if app_mesh := _app_mesh(file):
        _check_app_mesh(app_mesh)
        return
    from mesh.local import envoy_check
    from mesh.render.envoy import TokenRules
    from mesh.render.envoy.memory import held_by_edge, memory_fault
    from mesh.render.request_size import request_limit

    mesh, contract = _read_mesh(file)
    for rpc in sorted(contract.rpcs.values(), key=lambda rpc: rpc.path):
        if rpc.kind != "internal":
            terminal.line(f"{rpc.path.strip('/')}: requests up to {request_limit(contract, rpc) // 1024} KiB")
    for share in held_by_edge(mesh, contract):
        held = f"{share.count:,} x {share.each // 1024} KiB = {share.total // 2**20:,} MiB"
        terminal.line(f"{mesh.virtual_gateway.name}: {share.what}: {held}")
    if fault := memory_fault(mesh, contract):
        terminal.fail(fault)
    wrong = False
    for node, said in envoy_check.faults(mesh, contract, TokenRules("https://localhost", "authmesh", 60)):
        terminal.lines(f"{node}: Envoy takes its files" if not said else f"{node}: Envoy refuses its files:\n{said}")
        wrong = wrong or bool(said)
    if wrong:
        sys.exit(1)


@mesh_commands.command()
def schema() -> None:
    """Print the JSON Schema of mesh.yaml, by which editors complete and check it."""
    from mesh.model.schema import schema_text

    terminal.lines(schema_text().rstrip())


@mesh_commands.command()
def render(
    out: Annotated[Path, typer.Option(file_okay=False, help="Directory for the files. Those of an earlier run go.")],
    target: Annotated[
        str, typer.Option(help="What reads them: `envoy`, `kubernetes`, `gateway-api`, `app-mesh`, `app-mesh-api`.")
    ] = "envoy",
    file: MeshFile = None,
    issuer: Issuer = "https://localhost:8443",
    audience: Audience = "authmesh",
    namespace: Annotated[str, typer.Option(help="Of Kubernetes, for `kubernetes` and `app-mesh`.")] = "authmesh",
    image: Annotated[str, typer.Option(help="Of the services, for `kubernetes`.")] = "authmesh:latest",
    envoy_image: Annotated[str, typer.Option(help="Of Envoy, for `kubernetes`; best by digest.")] = ENVOY_IMAGE,
    trusted_hops: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=10,
            help="Proxies in front of the edge, for `kubernetes`: 1 behind a load balancer. By default mesh.yaml's.",
            show_default=False,
        ),
    ] = None,
    collector: Annotated[
        str | None,
        typer.Option(
            help="Where spans of traced calls go, for `envoy` and `kubernetes`: `otel-collector.observability:4318`.",
            show_default=False,
        ),
    ] = None,
    flavor: Annotated[
        str, typer.Option(help="What reads `gateway-api`: `istio`, `envoy-gateway` or `lattice`.")
    ] = "istio",
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Render also what the target can't hold all of; the files list it.")
    ] = False,
) -> None:
    """Write the mesh as files of a target.

    `envoy`: what each sidecar and the edge is given, `<node>/bootstrap.yaml` and the files that it reads. They expect
    certificates and sockets below /run/authmesh, and each node at the DNS name `<node>.<mesh>`.

    `kubernetes`: a Kustomize base (docs/kubernetes.md).

    `gateway-api`: Gateway, GRPCRoutes, and the policies of the flavor that reads them.

    `app-mesh`: resources of App Mesh's controller for Kubernetes; `app-mesh-api`: requests of its API.
    """
    from mesh.model.agreement import RenderError
    from mesh.render.appmesh import AppMeshApiRenderer, AppMeshRenderer
    from mesh.render.envoy import TokenRules
    from mesh.render.envoy.renderer import EnvoyRenderer
    from mesh.render.gateway_api import GatewayApiRenderer
    from mesh.render.kubernetes import Images, KubernetesRenderer
    from mesh.render.output import OutputError, write
    from mesh.render.renderer import Renderer

    spans = _address(collector) if collector else None
    known: tuple[Renderer, ...] = (
        EnvoyRenderer(tokens := TokenRules(issuer, audience, 60), collector=spans),
        KubernetesRenderer(tokens, namespace, Images(image, envoy_image), trusted_hops, spans),
        GatewayApiRenderer(tokens, namespace, flavor, accept_loss=accept_loss),
        AppMeshRenderer(namespace, accept_loss=accept_loss),
        AppMeshApiRenderer(namespace, accept_loss=accept_loss),
    )
    if app_mesh := _app_mesh(file):
        _render_app_mesh(app_mesh, target, namespace, out)
        return
    renderers = {found.target: found for found in known}
    if target not in renderers:
        terminal.fail(f"{target} is not a target: choose from {', '.join(renderers)}")
    mesh, contract = _read_mesh(file)
    try:
        written = write(renderers[target].render(mesh, contract), out)
    except (RenderError, OutputError) as error:
        terminal.fail(str(error))
    terminal.line(f"{written} files in {out}")


@mesh_commands.command(name="import")
def import_(
    manifests: Annotated[list[Path], typer.Argument(help="Files and directories of them: YAML or JSON.")],
    out: Annotated[Path, typer.Option(dir_okay=False, help="The mesh.yaml to write.")],
    namespace: Annotated[str, typer.Option(help="Of resources that name none.")] = "default",
    mesh_name: Annotated[
        str | None, typer.Option("--mesh", help="Which mesh, where there are several.", show_default=False)
    ] = None,
) -> None:
    """Read App Mesh's manifests, and write the mesh.yaml of the same mesh.

    Takes resources of App Mesh's controller (appmesh.k8s.aws/v1beta2), with other objects of Kubernetes between them,
    and what `aws appmesh describe-...` answered. Says what was carried, what is another way now and why, and what was
    left out. A fault writes nothing. docs/appmesh.md goes on from there.
    """
    from mesh.appmesh import envoy, manifest, mesh_yaml
    from mesh.model.document import DocumentError

    try:
        mesh, report = manifest.read(manifests, namespace=namespace, mesh=mesh_name)
    except DocumentError as error:
        terminal.fail(f"{error}\nNothing was written.")
    if faults := list(mesh_yaml.faults(mesh)):
        terminal.fail("\n".join((*faults, "Nothing was written.")))
    report.changed += envoy.notes(mesh)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(mesh_yaml.text(mesh))
    except OSError as error:
        terminal.fail(f"{out} can't be written: {error.strerror}")
    terminal.lines("\n".join(report.lines()))
    terminal.line(f"{out}: next, `authmesh mesh check --file {out}`")


@mesh_commands.command()
def graph(
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="`mesh.svg` for a picture; Mermaid on standard output by default."),
    ] = None,
    file: MeshFile = None,
) -> None:
    """Draw the mesh: its nodes, what the edge opens of them, and who may call what by the access rules."""
    from mesh.render.graph import Calls, mermaid, svg

    calls = Calls.of(*_read_mesh(file))
    if out is None:
        terminal.lines(mermaid(calls).rstrip())
        return
    if out.suffix not in (drawn := {".svg": svg, ".mmd": mermaid}):
        terminal.fail(f"{out} is not a picture that can be drawn: name a file with {' or '.join(drawn)}")
    try:
        out.write_text(drawn[out.suffix](calls))
    except OSError as error:
        terminal.fail(f"{out} can't be written: {error.strerror}")
    terminal.line(f"{out}: {len(calls.nodes)} nodes, {len(calls.between)} pairs of caller and node")


@mesh_commands.command()
def watch(
    out: Annotated[Path, typer.Option(file_okay=False, help="Directory for the files. Those of an earlier run go.")],
    namespace: Annotated[str, typer.Option(help="Of Kubernetes.")] = "authmesh",
) -> None:
    """Write what watches the mesh by its metrics.

    `rules.yaml`: alarms and error budgets, for Prometheus. `scrape.yaml`: what a Prometheus in the cluster scrapes.
    `dashboard.json`: for Grafana.
    """
    from mesh.render.output import OutputError, write
    from mesh.render.watch import dashboard, rules, scrape_kubernetes

    files = {"rules.yaml": rules(), "scrape.yaml": scrape_kubernetes(namespace), "dashboard.json": dashboard()}
    try:
        terminal.line(f"{write(files, out)} files in {out}")
    except OutputError as error:
        terminal.fail(str(error))


@mesh_commands.command()
def apply(file: MeshFile = None) -> None:
    """Bring a changed mesh.yaml to the local mesh while it runs: no restart, and no call that fails for it.

    Checks it first, as `check` does: a mesh.yaml with a fault changes nothing. Routes, weights, timeouts, retries,
    bounds, limits and CORS are changed at once. They hold until the mesh is started again, which reads mesh.yaml anew.
    """
    import asyncio

    from mesh.local import envoy_check
    from mesh.local.apply import apply as brought
    from mesh.local.apply import changes
    from mesh.render.envoy.memory import memory_fault

    async def bring() -> None:
        async for told in brought(found):
            terminal.line(told)

    mesh, contract, running = _running_mesh(file)
    # From here on what is wrong is not mesh.yaml's form: it has to be said that the mesh is as it was.
    if fault := memory_fault(mesh, contract):
        terminal.fail(f"{fault}\nNothing was changed.")
    if not (found := changes(mesh, contract, running)):
        terminal.line("The Envoys run this mesh.yaml already.")
        return
    for node, said in envoy_check.faults(mesh, contract, running.tokens):
        if said:
            terminal.fail(f"{node}: Envoy refuses its files. Nothing was changed.\n{said}")
    for change in found:
        terminal.line(f"{change.node}: {', '.join(change.files)}")
    asyncio.run(bring())


@mesh_commands.command()
def diff(file: MeshFile = None) -> None:
    """Show where the Envoys of the local mesh run something else than mesh.yaml says. Status 1 where they do."""
    import asyncio

    from mesh.local.difference import differences, rendered, running
    from mesh.render.envoy import render

    mesh, contract, placements = _running_mesh(file)
    differ = False
    for node, placement in placements.envoys.items():
        if node not in (*mesh.nodes, mesh.virtual_gateway.name):
            terminal.line(f"{node}: runs, and is not in mesh.yaml")
            differ = True
            continue
        wanted = rendered(render(mesh, contract, node, placement, placements.tokens))
        for one in differences(wanted, asyncio.run(running(placement))):
            place = f" {one.path}" if one.path else ""
            terminal.line(f"{node}: {one.resource}{place}: mesh.yaml {one.wanted}, running {one.running}")
            differ = True
    for node in {*mesh.nodes} - {*placements.envoys}:
        terminal.line(f"{node}: is in mesh.yaml, and does not run")
        differ = True
    if differ:
        sys.exit(1)
    terminal.line(f"{len(placements.envoys)} Envoys run what mesh.yaml says")


@mesh_commands.command(name="status")
def mesh_status(interval: Interval = 2.0, once: Once = False) -> None:
    """Watch the Envoys of the local mesh: what each sends calls to, how healthy that is, and how it goes."""
    from mesh.operator.samples import Sample
    from mesh.operator.state_dir import StateDir
    from mesh.operator.status import read_status
    from mesh.operator.upstreams import pages, table, upstreams

    def drawn(before: dict[str, Sample | None], after: dict[str, Sample | None]) -> Any:
        return table({node: list(upstreams(node, before[node], after[node])) for node in after})

    _watch(pages(read_status(StateDir.chosen().status).observed), drawn, interval, once=once)


new_commands = typer.Typer(no_args_is_help=True, help="Begin something new in this checkout.")
app.add_typer(new_commands, name="new")


@new_commands.callback()
def _new() -> None:
    """Begin something new in this checkout."""


@new_commands.command()
def service(
    name: Annotated[str, typer.Argument(help="The plural of what it keeps, in lower case: `orders`.")],
    resource: Annotated[
        str | None, typer.Option(help="The singular, where it is not the name without its `s`.", show_default=False)
    ] = None,
) -> None:
    """Begin a bounded context: its contract, service, table, node, routes, scopes and tests.

    It works at once: five methods over a table of its own, with audit events, pages, etags and a quota. Run it in the
    top folder of the checkout, then change what it wrote.
    """
    from mesh.scaffold import service as scaffold

    checkout = Path.cwd()
    new = scaffold.NewService.named(name, resource)
    changed = scaffold.changes(checkout, new)
    existing = {path for path in changed if (checkout / path).exists()}
    scaffold.write(checkout, changed)
    for path in sorted(changed):
        terminal.line(f"{'changed' if path in existing else 'new    '}  {path}")
    method = f"{new.resource.capitalize()}Service/Create{new.resource.capitalize()}"
    terminal.line("")
    terminal.line("Next: `make gen format lint test`, then `make run-mesh`. With a token, its first call is:")
    first = f"""'{{"{new.resource}": {{"displayName": "first"}}}}'"""
    terminal.line(f'  authmesh call {method} {first} --token "$TOKEN"')


def _address(text: str) -> Any:
    from mesh.render.envoy import Address

    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        terminal.fail(f"{text} is not host:port")
    return Address(host, int(port))


def _app_mesh(file: Path | None) -> Any:
    """The mesh of a mesh.yaml that is of App Mesh's kind; None of any other."""
    from mesh.appmesh import mesh_yaml
    from mesh.model.document import DocumentError

    if file is None or not mesh_yaml.is_app_mesh(file):
        return None
    try:
        return mesh_yaml.load(file)
    except DocumentError as error:
        terminal.fail(str(error))


def _check_app_mesh(mesh: Any) -> None:
    from functools import partial

    from mesh.appmesh import envoy
    from mesh.local.envoy_check import refusal

    wrong = False
    for name in (*(one.name for one in mesh.virtual_nodes), *(one.name for one in mesh.virtual_gateways)):
        said = refusal(partial(envoy.render_into, mesh, name))
        terminal.lines(f"{name}: Envoy refuses its files:\n{said}" if said else f"{name}: Envoy takes its files")
        wrong = wrong or bool(said)
    for note in envoy.notes(mesh):
        terminal.line(f"note: {note}")
    if wrong:
        sys.exit(1)


def _render_app_mesh(mesh: Any, target: str, namespace: str, out: Path) -> None:
    from mesh.appmesh import envoy, resources
    from mesh.render.output import OutputError, write

    if target not in ("envoy", "app-mesh"):
        terminal.fail(f"a mesh without access rules can't be rendered for {target}: choose from envoy, app-mesh")
    try:
        written = write(envoy.render_all(mesh) if target == "envoy" else resources.render(mesh, namespace), out)
    except OutputError as error:
        terminal.fail(str(error))
    terminal.line(f"{written} files in {out}")


def _watch(pages: dict[str, str], drawn: Any, interval: float, *, once: bool) -> None:
    """Draws what happened between two looks at the metrics: until Ctrl-C, or once where there is no terminal."""
    import asyncio

    from rich.console import Console
    from rich.live import Live

    from mesh.operator.samples import samples

    console = Console(width=None if sys.stdout.isatty() else 200)

    async def look() -> None:
        before = await samples(pages)
        await asyncio.sleep(interval)
        after = await samples(pages)
        if not any(after.values()):
            terminal.fail("no mesh runs here: start it with `make run-mesh`")
        if once or not console.is_terminal:
            console.print(drawn(before, after))
            return
        with Live(drawn(before, after), console=console, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(interval)
                before, after = after, await samples(pages)
                live.update(drawn(before, after), refresh=True)

    try:
        asyncio.run(look())
    except KeyboardInterrupt:
        return


def _running_mesh(file: Path | None) -> Any:
    """A mesh.yaml, its contract, and where the Envoys are that may run it.

    A service of one's own that runs with the others belongs to it.
    """
    from mesh.contract import Contract
    from mesh.local.apply import Placements
    from mesh.model.addition import joined
    from mesh.model.agreement import RenderError, check_agreement
    from mesh.model.document import DocumentError
    from mesh.model.mesh import load_mesh
    from mesh.operator.state_dir import StateDir
    from mesh.operator.status import read_status

    home = StateDir.chosen()
    read_status(home.status)
    placements = Placements.read(home.placements)
    try:
        mesh, contract, _ = joined(load_mesh(file), Contract.load(), placements.addition, home.contract)
        check_agreement(mesh, contract)
    except (DocumentError, RenderError) as error:
        terminal.fail(str(error))
    return mesh, contract, placements


def _read_mesh(file: Path | None) -> Any:
    """The mesh and its contract, which agree."""
    from mesh.contract import Contract
    from mesh.model.agreement import RenderError, check_agreement
    from mesh.model.document import DocumentError
    from mesh.model.mesh import load_mesh

    try:
        mesh, contract = load_mesh(file), Contract.load()
        check_agreement(mesh, contract)
    except (DocumentError, RenderError) as error:
        terminal.fail(str(error))
    return mesh, contract


if __name__ == "__main__":
    main()
