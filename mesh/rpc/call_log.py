"""What log and metrics tell of calls: a line each, and their ids on every line that belongs to one."""

import asyncio
import logging
import time
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

import structlog

from mesh.contract import Rpc
from mesh.rpc.call import Call, Handler, current_call
from mesh.telemetry.logs import Processor
from mesh.telemetry.metrics import RPC_CALLS, RPC_SECONDS
from mesh.telemetry.tracing import failed, server_span

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_logger = logging.getLogger("authmesh.call")
_log = structlog.get_logger(_logger.name)
# UNAVAILABLE is not worth a warning for each call: the one who notices an outage says so once.
_LOUD = {"INTERNAL": logging.ERROR, "DEADLINE_EXCEEDED": logging.WARNING, "OK": logging.DEBUG}


_FAULTS = frozenset({"INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "UNAVAILABLE", "DATA_LOSS", "UNIMPLEMENTED"})
"""Ends of a call that a server answers for (OpenTelemetry's conventions for gRPC servers)."""


def circumstances(node: str) -> Processor:
    """What every line of a process says: its node, and the ids of the call that it belongs to."""

    def describe(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["node"] = node
        if call := current_call():
            event["request_id"], event["trace_id"] = call.request_id, call.trace_id
        return event

    return describe


def _describe(span: "Span", call: Call) -> None:
    """Says on the span of a call what the call came to. Who it was for is in the log and in events, and not here."""
    status, _, reason = call.status.partition(" ")
    span.set_attribute("rpc.response.status_code", status)
    span.set_attribute("authmesh.request_id", call.request_id)
    if reason:
        span.set_attribute("authmesh.reason", reason)
    if call.caller:
        span.set_attribute("authmesh.caller", call.caller)
    if status in _FAULTS:
        failed(span, status)


def telemetry(rpc: Rpc, proceed: Handler) -> Handler:
    """The outermost stage: one line a call, at a level that its end deserves, and its part in the metrics.

    Never a token, a password, a code or an address of mail.
    """
    method = (rpc.service, rpc.name)
    name = f"{rpc.service}/{rpc.name}"
    seconds = RPC_SECONDS.labels(*method)
    ended: dict[str, Any] = {}
    """Counters by status: to find one by its labels takes longer than to count."""

    async def traced(call: Call) -> Any:
        with server_span(name, call.traceparent, rpc_system="grpc", rpc_method=name) as span:
            if span is None:
                return await proceed(call)
            try:
                return await proceed(call)
            except asyncio.CancelledError:
                call.status = "CANCELLED"
                raise
            finally:
                _describe(span, call)

    async def tell(call: Call) -> Any:
        started = time.perf_counter()
        try:
            return await traced(call)
        except asyncio.CancelledError:
            call.status = "CANCELLED"
            raise
        finally:
            taken = time.perf_counter() - started
            seconds.observe(taken)
            if (counter := ended.get(call.status)) is None:
                status, _, reason = call.status.partition(" ")
                counter = ended[call.status] = RPC_CALLS.labels(*method, status, reason)
            counter.inc()
            level = _LOUD.get(call.status.partition(" ")[0], logging.INFO)
            # Most calls are told of at a level that no one has asked for: then there is no line to make.
            if _logger.isEnabledFor(level):
                _log.log(
                    level,
                    "call",
                    rpc=rpc.path,
                    status=call.status,
                    caller=call.caller,
                    subject=call.claims.subject if call.claims else None,
                    milliseconds=round(taken * 1000, 2),
                )

    return tell
