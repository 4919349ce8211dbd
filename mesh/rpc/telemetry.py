"""Structured logs, one JSON object a line, each with the request and trace id of the call it belongs to."""

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import structlog

from mesh.rpc.call import Call, current_call

_log = structlog.get_logger("authmesh.call")
_LOUD = {"INTERNAL": "error", "UNAVAILABLE": "warning", "DEADLINE_EXCEEDED": "warning", "OK": "debug"}


def configure_logging(node: str, level: str) -> None:
    """Sends every log line of the process, the libraries' included, to standard output as JSON."""

    def describe(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["node"] = node
        if call := current_call():
            event["request_id"], event["trace_id"] = call.request_id, call.trace_id
        return event

    shared: list[Any] = [
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        describe,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # botocore logs request bodies at debug, asyncio slow callbacks with their arguments: neither belongs in our log.
    for noisy in ("botocore", "aiobotocore", "asyncio", "grpc"):
        logging.getLogger(noisy).setLevel("WARNING")


@asynccontextmanager
async def telemetry(call: Call) -> AsyncIterator[None]:
    """The outermost stage: one line a call, at a level that its end deserves. Never a token, a password, a code or an address of mail."""
    started = time.perf_counter()
    try:
        yield
    except asyncio.CancelledError:
        call.status = "CANCELLED"
        raise
    finally:
        level = _LOUD.get(call.status.partition(" ")[0], "info")
        getattr(_log, level)(
            "call",
            rpc=call.rpc.path,
            status=call.status,
            caller=call.caller,
            subject=call.claims.subject if call.claims else None,
            milliseconds=round((time.perf_counter() - started) * 1000, 2),
        )
