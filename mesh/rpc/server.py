"""Starting and draining a service: one function, `serve`, for all of them."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import grpc
import structlog
import uvloop
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mesh.contract import Contract, Rpc
from mesh.rpc.admission import MESSAGE_LIMIT, Admission
from mesh.rpc.call import Handler
from mesh.rpc.call_log import circumstances, telemetry
from mesh.rpc.channel import OPTIONS
from mesh.rpc.errors import error_table
from mesh.rpc.interceptor import MeshInterceptor
from mesh.rpc.validation import Validation
from mesh.runtime import part
from mesh.runtime.part import Part
from mesh.settings import Environment, ProcessSettings
from mesh.telemetry.exposition import Exposition
from mesh.telemetry.logs import configure_logging, describe
from mesh.telemetry.metrics import BUILD, PART_READY
from mesh.telemetry.tracing import Tracing

CHECK_SECONDS = 0.2
PENDING = 10_000
"""Calls that may arrive at once; gRPC's own limit is 1,000. Each takes some kilobytes, and sidecars let far fewer
through."""
NOTICE_SECONDS = 0.3
"""Between NOT_SERVING and GOAWAY: time for a watching sidecar to look elsewhere."""

Register = tuple[Callable[[Any, aio.Server], None], Any]
"""A generated `add_…Servicer_to_server` and the servicer."""

_COLLECTOR_THRESHOLDS = (20_000, 20, 100)
"""Objects made since a collection of the young; of those, how many until the next of the middle; and so on. Python's
own are 700, 10 and 10."""

# grpc's published types don't have it yet.
_LIST_RESPONSE: Any = health_pb2.HealthListResponse  # type: ignore[attr-defined]

_log = structlog.get_logger("authmesh.server")


class Authenticates(Protocol):
    """The stage that admits callers (`mesh.tokens.authentication.Authentication`)."""

    @property
    def parts(self) -> Sequence[Part]:
        """What it needs to run in the background."""

    def __call__(self, rpc: Rpc, proceed: Handler) -> Handler:
        """The stage (`mesh.rpc.call.Stage`)."""


async def serve(
    settings: ProcessSettings,
    *,
    services: Sequence[Register],
    authentication: Authenticates,
    parts: Sequence[Part] = (),
    contract: Contract | None = None,
) -> None:
    """Serves on `settings.socket` until SIGTERM or SIGINT, or until a part fails.

    Then it says NOT_SERVING, sends GOAWAY, lets the calls in flight finish, and ends the parts, the last one first.

    Args:
        settings: The process's settings.
        services: What to serve.
        authentication: Admits callers. Its parts run with the others, after them.
        parts: The parts of the process, each after those that it relies on. SERVING while all that have a readiness
            are ready.
        contract: The access rules, limits and field rules of `services`; those of the mesh itself by default.

    Raises:
        ValueError: a service is not in the contract, or a part is missing from `parts`, or twice in it.
        BaseExceptionGroup: a part failed. The process should end: its supervisor starts it again.
    """
    configure_logging(settings.log_level, circumstances(settings.node))
    contract = contract or Contract.load()
    admission = Admission(settings.max_concurrent_calls)
    interceptor = MeshInterceptor(
        contract, [telemetry, error_table, admission, authentication, Validation()], settings.spiffe_ids
    )
    server = aio.server(
        interceptors=[interceptor],
        options=[
            *OPTIONS,
            # gRPC refuses without a reason, so it does so only where Admission would have to hold far too much to say
            # it.
            ("grpc.max_receive_message_length", 2 * MESSAGE_LIMIT),
            ("grpc.max_send_message_length", MESSAGE_LIMIT),
            # Calls that have arrived and wait for the loop. gRPC ends what is above with a bare CANCELLED; Admission
            # says OVERLOADED.
            ("grpc.server.max_pending_requests", PENDING),
            ("grpc.server.max_pending_requests_hard_limit", 2 * PENDING),
            # Identity alone: the limits on a request count the bytes that come in, and a few of them can unpack to
            # megabytes.
            ("grpc.compression_enabled_algorithms_bitset", 1),
        ],
    )
    names = _Names(server)
    for add, servicer in services:
        add(servicer, names)  # type: ignore[arg-type]
    unknown = names.names - contract.services.keys()
    if unknown:
        raise ValueError(f"not in the contract: {', '.join(sorted(unknown))}")
    health_servicer = _Health()
    readiness = _Readiness(health_servicer, names.names, [*parts, *authentication.parts])
    exposition = [Exposition(Path(settings.metrics))] if settings.metrics else []
    endpoint = settings.otel_exporter_otlp_traces_endpoint
    tracing = [Tracing(str(endpoint), settings.node, release())] if endpoint else []
    BUILD.labels(settings.node, release()).set(1)
    # Tracing ends last: what the others do on their way out is sent, too.
    everything = [*tracing, *parts, *authentication.parts, *exposition, readiness]
    part.check(everything)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if settings.environment is Environment.DEVELOPMENT:
        reflection.enable_server_reflection(
            [*sorted(names.names), health.SERVICE_NAME, reflection.SERVICE_NAME], server
        )

    server.add_insecure_port(f"unix:{settings.socket}")
    stopping = _stop_signal()
    async with part.running(everything, failed=stopping.set):
        _spare_the_collector()
        await server.start()
        _log.info("serving", services=sorted(names.names))
        try:
            await stopping.wait()
        finally:
            # Also when a part failed: the calls in flight are none the worse for it.
            _log.info("draining")
            await health_servicer.enter_graceful_shutdown()
            await asyncio.sleep(NOTICE_SECONDS)
            health_servicer.end_watches()
            admission.drain()
            await server.stop(settings.drain_seconds)
    _log.info("stopped")


def release() -> str:
    """The version that is installed; `unreleased` in an image that has no metadata."""
    try:
        return version("authmesh")
    except PackageNotFoundError:
        return "unreleased"


def _spare_the_collector() -> None:
    """Takes what the process has made so far out of the garbage collector's sight, and calls it less often.

    A full collection looks at all objects, and stops the loop for as long. What is made after this is looked at as
    before, and calls leave hardly any circles behind.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Runs a process's main coroutine on uvloop. Files and sockets that it makes are its user's alone.

    Raises:
        SystemExit: a fault ended it; the log says which.
    """
    os.umask(0o077)

    async def body() -> None:
        await main()

    try:
        uvloop.run(body())
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the interpreter would print what the exceptions hold
        if not structlog.is_configured():
            configure_logging("info")
        _log.critical("ended by a fault", exception=describe(error))
        sys.exit(1)


def _stop_signal() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


class _Readiness(Part):
    """Reports every part that has a readiness as a subsystem, with a status by its name.

    The process and its services are SERVING while all of them are.
    """

    name = "health"

    def __init__(self, servicer: "_Health", services: set[str], parts: Sequence[Part]) -> None:
        self._servicer = servicer
        self._services = services
        self._parts = parts

    async def run(self) -> None:
        reported: dict[str, bool] = {}
        serving: bool | None = None
        while True:
            states = {part.name: ready for part in self._parts if (ready := part.ready) is not None}
            missing = [name for name, good in states.items() if not good]
            if serving is not (serving := not missing):
                _log.info("ready" if serving else "not ready", missing=missing)
            current = states | dict.fromkeys(("", *self._services), serving)
            for name, good in states.items():
                PART_READY.labels(name).set(good)
            for name, good in current.items():
                if reported.get(name) is not good:
                    await self._servicer.set(
                        name,
                        health_pb2.HealthCheckResponse.SERVING if good else health_pb2.HealthCheckResponse.NOT_SERVING,
                    )
            reported = current
            await asyncio.sleep(CHECK_SECONDS)


class _Health(health.aio.HealthServicer):
    """Lists the subsystems with the services.

    Ends its watches when it is told to: one that stays open would hold up the drain to its last second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listed: dict[str, health_pb2.HealthCheckResponse] = {}
        self._watches: set[asyncio.Task[Any]] = set()
        self._draining = self._ending = False

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # noqa: N802
        task = asyncio.current_task()
        assert task is not None
        self._watches.add(task)
        try:
            await super().Watch(request, context)
        except asyncio.CancelledError:
            if not self._ending or task.uncancel() > 0:
                raise
        finally:
            self._watches.discard(task)

    async def set(self, service: str, status: Any) -> None:
        if not self._draining:
            self._listed[service] = health_pb2.HealthCheckResponse(status=status)
        await super().set(service, status)

    async def enter_graceful_shutdown(self) -> None:
        self._draining = True
        await super().enter_graceful_shutdown()
        self._listed = dict.fromkeys(
            self._listed, health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
        )

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _LIST_RESPONSE(statuses=self._listed)

    def end_watches(self) -> None:
        self._ending = True
        for task in self._watches:
            task.cancel()


class _Names:
    """Stands in for a server while services are added, to learn their names for health and reflection."""

    def __init__(self, server: aio.Server) -> None:
        self._server = server
        self.names: set[str] = set()

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]
    ) -> None:
        self.names.add(service)
        self._server.add_registered_method_handlers(service, handlers)
