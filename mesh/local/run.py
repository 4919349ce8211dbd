"""The start order of a local mesh, its life, and its end."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp.web import AppRunner

from mesh.contract import Contract
from mesh.local import (
    databases,
    demo,
    event_stack,
    inbox,
    inotify,
    servers,
    service_settings,
    sockets,
    state_dir,
    traces,
    user_pool,
)
from mesh.local import topology as nodes
from mesh.local.apply import Placements
from mesh.local.authority import RENEW_EVERY, MeshAuthorities
from mesh.local.child import Child
from mesh.local.components import sidecar
from mesh.local.components.service import OwnCommand
from mesh.local.console import PlainConsole, open_console
from mesh.local.edge_address import EdgeAddress
from mesh.local.emulator_gaps import save_state
from mesh.local.health import GrpcHealth
from mesh.local.infra import Infra
from mesh.local.journal import Journal
from mesh.local.options import COGNITO, DEFAULT_EDGE_PORT, Options
from mesh.local.persisted_state import PersistedState
from mesh.local.ports import HeldPorts, free_port
from mesh.local.process import age
from mesh.local.process_memory import pss_mb
from mesh.local.supervisor import Supervisor
from mesh.model.addition import joined
from mesh.model.document import DocumentError
from mesh.model.mesh import Mesh, load_mesh
from mesh.operator.errors import OperatorError
from mesh.operator.identity import Identity
from mesh.operator.local_service import UserPool
from mesh.operator.secret_file import load_or_create, write_private
from mesh.operator.state_dir import StateDir, place
from mesh.operator.status import Demo, Health, Row, Runner, State, Status

WATCHES = 9
"""Inotify instances of an Envoy at most: its listeners, clusters, two sets of routes, and its certificates."""
UPSTREAM_TIMEOUT = 30.0
"""Seconds from all processes healthy to all of them reachable through the sidecars."""


def run(home: StateDir, choices: Options) -> None:
    """Runs the mesh until SIGINT, SIGTERM or SIGHUP.

    Raises:
        OperatorError: it can't be started, or something of it broke for good. All that was started is stopped again.
    """
    infra = Infra.find()
    state_dir.prepare(home)
    os.umask(0o077)
    with state_dir.locked(home):
        asyncio.run(_until_told(LocalMesh(home, infra, choices)))


async def _until_told(mesh: "LocalMesh") -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, told.set)
    try:
        await _first_of(mesh.live(), told)
    except OperatorError as error:
        await mesh.stop(str(error))
        raise
    except BaseException as error:
        await mesh.stop(f"{type(error).__name__}: {error}")
        raise
    await mesh.stop()


async def _first_of(work: Coroutine[Any, Any, None], told: asyncio.Event) -> None:
    """Runs `work` until it ends or `told` is set; raises what it raised."""
    working, waiting = asyncio.create_task(work), asyncio.create_task(told.wait())
    await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working


class LocalMesh:
    """One mesh on this machine: `live` starts it and keeps it, `stop` ends it."""

    def __init__(self, home: StateDir, infra: Infra, choices: Options, console: PlainConsole | None = None) -> None:
        self._home = home
        self._infra = infra
        self._choices = choices
        self._console = console or open_console()
        self._memory = PersistedState.read(home.memory)
        self._changed = asyncio.Event()
        self._supervisor = Supervisor(home.journal, self._changed.set)
        self._ports = HeldPorts()
        self._probes: dict[str, GrpcHealth] = {}
        self._servers: servers.Servers | None = None
        self._sockets: Path | None = None
        self._traces: AppRunner | None = None
        me = Identity.of(os.getpid())
        self._status = Status(
            state=State.STARTING, runner=Runner(pid=me.pid, started=me.started, place=place(home.path)) if me else None
        )

    async def live(self) -> None:
        """Starts everything, then keeps it until cancelled.

        Raises:
            OperatorError: it can't be started, or something of it broke for good.
        """
        async with _one_failure(), asyncio.TaskGroup() as group:
            group.create_task(self._publish_changes(), name="status")
            await self._start(group)

    async def stop(self, error: str | None = None) -> None:
        """Stops what was started, in reverse order, and says so in status.json.

        Args:
            error: Why, if it was not asked for.
        """
        self._publish(state=State.STOPPING)
        publishing = asyncio.create_task(self._publish_changes())
        await self._supervisor.stop()
        publishing.cancel()
        self._console.close()
        for probe in self._probes.values():
            await probe.close()
        if self._traces is not None:
            await self._traces.cleanup()
        if self._servers is not None:
            self._servers.close()
        if self._sockets is not None:
            sockets.remove(self._sockets)
        self._ports.close()
        self._home.journal.unlink(missing_ok=True)
        if error is None:
            self._home.status.unlink(missing_ok=True)
            self._console.line("stopped")
        else:
            self._publish(state=State.FAILED, error=error, runner=None)

    async def _start(self, group: asyncio.TaskGroup) -> None:
        home = self._home
        # Before anything else: the status of a killed run may still say that all is well.
        self._publish()
        left = await asyncio.to_thread(Journal(home.journal).end_leftovers)
        if left:
            self._console.line(f"ended {len(left)} processes that a killed run had left")
        state_dir.rotate_logs(home)
        mesh, contract, own = self._definition()
        service_settings.refuse_others(mesh.nodes, self._choices.environment)
        edge = self._edge_address()
        self._sockets = sockets.socket_directory(home.path)
        self._servers = standing = await servers.start(
            home, self._infra, self._sockets, self._choices, self._memory, self._supervisor
        )
        layout = nodes.Topology.chosen(
            home,
            self._infra,
            self._sockets,
            edge,
            mesh,
            self._authorities(mesh, edge),
            self._ports,
            self._choices,
            own,
            reload=self._may_reload(mesh),
        )
        Placements(
            nodes.token_rules(layout),
            {node: nodes.placement(layout, node) for node in (*mesh.nodes, layout.gateway)},
            self._choices.mesh_file,
        ).write(home.placements)
        self._traces = await traces.serve(layout.collector.host, layout.collector.port, traces.TraceStore())
        self._publish(traces=f"http://{layout.collector.host}:{layout.collector.port}")
        self._publish(observed={node: f"http://{at.host}:{at.port}" for node, at in layout.observed.items()})
        self._publish(edge=edge.url, ca_file=str(home.ca_file), aws_endpoint_url=standing.account.endpoint_url)
        planned = databases.plan(standing.database_url, tuple(mesh.nodes), home.secrets)
        async with asyncio.TaskGroup() as preparing:
            preparing.create_task(self._databases(planned, standing))
            events_task = preparing.create_task(self._events(standing))
        events = events_task.result()
        pool = await self._user_pool(standing) if self._choices.identity == COGNITO else None
        self._publish(audit_bucket=events.audit_bucket)
        self._memory.write(home.memory)

        group.create_task(inbox.collect(standing.account, events.inbox_queue_url, home.inbox), name="inbox")
        group.create_task(self._renew_certificates(layout.authorities, mesh), name="certificates")
        if standing.emulator:
            group.create_task(self._keep_events(standing, standing.emulator), name="events")
        started = self._supervisor.start(nodes.sidecars(layout, contract))
        started += self._supervisor.start(nodes.services(layout, planned, standing, events, pool, self._probes))
        started += self._supervisor.start([nodes.edge(layout, contract)])
        await self._supervisor.healthy(started)
        await self._reachable(layout)
        here = demo.Edge(edge.local_url, home.ca_file)
        user = await self._demo_user(here, planned)
        self._publish(
            state=State.READY,
            demo=Demo(email=user.email, password=user.password, client_id=user.client_id),
            startup_seconds=round(age(), 1),
            memory_pss_mb=pss_mb(),
        )
        self._say_ready(edge, user)
        await self._say_which_keys_sign(here)

    def _definition(self) -> tuple[Mesh, Contract, Mapping[str, OwnCommand]]:
        """The mesh, its contract, and how the services start that are not ours."""
        file = self._choices.mesh_file
        if file is None:
            self._home.contract.unlink(missing_ok=True)
        try:
            mesh, contract, commands = joined(load_mesh(), Contract.load(), file, self._home.contract)
            return mesh, contract, {node: OwnCommand.of(command, file) for node, command in commands.items() if file}
        except (DocumentError, OSError) as error:
            raise OperatorError(str(error)) from None

    def _may_reload(self, mesh: Mesh) -> bool:
        """Whether all Envoys may watch all of their files, and leave room for others of this user."""
        if not self._choices.reload:
            return False
        allowed = inotify.allows(WATCHES * (len(mesh.nodes) + 2))
        if not allowed:
            self._console.line(
                f"Envoys read their files at their start only: `authmesh mesh apply` needs more of {inotify.SYSCTL}"
            )
        return allowed

    def _edge_address(self) -> EdgeAddress:
        host, wanted = self._choices.edge_host, self._choices.edge_port
        if wanted == 0:
            remembered = self._memory.edge_port
            wanted = remembered if remembered and EdgeAddress.of(host, remembered).is_free() else free_port()
            self._memory.edge_port = wanted
        edge = EdgeAddress.of(host, wanted)
        if not edge.is_free():
            other = DEFAULT_EDGE_PORT + 1000 if wanted == DEFAULT_EDGE_PORT else DEFAULT_EDGE_PORT
            raise OperatorError(
                f"port {wanted} is in use: stop what listens there, or choose another: make run-mesh EDGE_PORT={other}"
            )
        for address in edge.listening:
            self._ports.hold(wanted, address)
        return edge

    def _authorities(self, mesh: Mesh, edge: EdgeAddress) -> MeshAuthorities:
        home = self._home
        authorities = MeshAuthorities.load_or_create(
            home.secrets / "authorities", home.path / "certificates", mesh.spiffe_ids, edge.names
        )
        authorities.issue((*mesh.nodes, mesh.virtual_gateway.name))
        write_private(home.ca_file, authorities.public.pem)
        return authorities

    async def _databases(self, planned: list[databases.ServiceDatabase], standing: servers.Servers) -> None:
        await self._supervisor.healthy([child for child in standing.children if child.program.name == "postgres"])
        await databases.ensure(planned, self._home.log("migrations"))
        databases.publish_urls(planned, self._home.database_urls)

    async def _events(self, standing: servers.Servers) -> event_stack.EventStack:
        await self._supervisor.healthy([standing.emulator] if standing.emulator else [])
        events, changed = await event_stack.ensure(standing.account)
        if changed and standing.emulator:
            await save_state(standing.emulator)
        await self._pin_audit_keys(standing, events)
        return events

    async def _user_pool(self, standing: servers.Servers) -> UserPool:
        pool, changed = await user_pool.ensure(standing.account, self._home.secrets / "cognito-client-secret")
        if changed and standing.emulator:
            await save_state(standing.emulator)
        return pool

    async def _pin_audit_keys(self, standing: servers.Servers, events: event_stack.EventStack) -> None:
        for key, file in (
            (events.checkpoint_key, self._home.audit_key),
            (events.acknowledgement_key, self._home.acknowledgement_key),
        ):
            pem = await event_stack.public_key(standing.account, key)
            if load_or_create(file, partial(bytes, pem)) != pem:
                self._console.line(
                    f"The audit trail is signed with another key than the pinned one ({file}): "
                    f"`authmesh audit verify` will refuse it. "
                    "If this is another AWS account than before, delete that file."
                )

    async def _keep_events(self, standing: servers.Servers, emulator: Child) -> None:
        """An emulator that was killed and started again has forgotten what was made since its last orderly end."""
        seen = emulator.restarts
        while True:
            if emulator.restarts != seen and emulator.health is Health.HEALTHY:
                seen = emulator.restarts
                with contextlib.suppress(OperatorError):
                    await event_stack.ensure(standing.account)
            await asyncio.sleep(1)

    async def _renew_certificates(self, authorities: MeshAuthorities, mesh: Mesh) -> None:
        issued = time.time()
        while True:
            await asyncio.sleep(60)
            # By the wall clock: a laptop that slept must not wake up to expired certificates.
            if time.time() - issued > RENEW_EVERY.total_seconds():
                authorities.issue((*mesh.nodes, mesh.virtual_gateway.name))
                issued = time.time()

    async def _reachable(self, layout: nodes.Topology) -> None:
        """Waits until every Envoy sees its upstreams serve: grpc.health.v1 through sidecar and mutual TLS."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + UPSTREAM_TIMEOUT
        waiting = [*layout.mesh.nodes, layout.gateway]
        while waiting:
            missing = {name: await sidecar.unhealthy_upstreams(layout.admin_socket(name)) for name in waiting}
            waiting = [name for name, clusters in missing.items() if clusters]
            if waiting and loop.time() > deadline:
                told = "; ".join(f"{name} to {', '.join(missing[name])}" for name in waiting)
                raise OperatorError(
                    f"no way through the mesh after {UPSTREAM_TIMEOUT:.0f} s: {told}; see {self._home.logs}"
                )
            if waiting:
                await asyncio.sleep(0.05)

    async def _demo_user(self, edge: demo.Edge, planned: list[databases.ServiceDatabase]) -> demo.DemoUser:
        user = demo.demo_user(self._home.secrets)
        auth = next((database for database in planned if database.node == "auth"), None)
        made_in = await databases.identity(auth) if auth else None
        if made_in is None or made_in != self._memory.demo_database:
            await demo.ensure(user, edge, self._home.inbox)
            self._memory.demo_database = made_in
            self._memory.write(self._home.memory)
        return user

    def _say_ready(self, edge: EdgeAddress, user: demo.DemoUser) -> None:
        memory = f", {self._status.memory_pss_mb} MB (PSS)" if self._status.memory_pss_mb else ""
        self._console.line(f"\nThe mesh is up: {edge.url} (all healthy after {self._status.startup_seconds} s{memory})")
        self._console.line(
            f"CA to trust: {self._home.ca_file}   logs: {self._home.logs}   demo user: "
            f"{user.email}, password {user.password}"
        )
        self._console.line(demo.first_calls(demo.Edge(edge.url, self._home.ca_file), user))
        if edge.is_open:
            self._console.line(
                f"WARNING: EDGE_HOST opens port {edge.port} to the network: everyone who reaches "
                f"this machine can call the API, "
                "sign up and try passwords. Nothing else of the mesh listens there. Use it in networks that you trust."
            )
        self._console.line(f"Traces: {self._status.traces}   Metrics: authmesh top   Envoys: authmesh mesh status")
        self._console.line("Ctrl-C stops it.\n")

    async def _say_which_keys_sign(self, edge: demo.Edge) -> None:
        """A mesh that has keys goes on with them, whatever algorithm new ones are to have."""
        wanted = self._choices.environment.get("SIGNING_ALGORITHM")
        others = (
            {key.get("alg") for key in (await edge.get("/.well-known/jwks.json")).get("keys", [])} - {wanted}
            if wanted
            else set()
        )
        if others:
            self._console.line(
                f"SIGNING_ALGORITHM={wanted} is for new keys, and this mesh has others: `authmesh "
                f"keys rotate`, twice, changes over\n"
            )

    async def _publish_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._publish()

    def _publish(self, **changes: Any) -> None:
        rows = tuple(
            Row(
                name=child.program.name,
                pid=child.pid,
                address=child.program.address,
                health=child.health,
                lacks=child.lacks,
                restarts=child.restarts,
            )
            for child in self._supervisor.children
            if not child.gone
        )
        self._status = self._status.model_copy(update=changes | {"processes": rows})
        self._console.show(self._status)
        try:
            # It holds the demo user's password.
            write_private(self._home.status, self._status.model_dump_json(indent=1).encode() + b"\n")
        except OperatorError as error:
            # The mesh itself goes on: a full disk is not a reason to end it.
            self._console.line(str(error))


@contextlib.asynccontextmanager
async def _one_failure() -> Any:
    """The first failure of a task group, instead of the group."""
    try:
        yield
    except BaseExceptionGroup as group:
        failure: BaseException = group
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        raise failure from None
