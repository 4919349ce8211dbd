"""What the log tells of calls: one line each, and their ids on every line that belongs to one."""

import asyncio
import time
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import structlog

from mesh.rpc.call import Call, current_call
from mesh.telemetry.logs import Processor

_log = structlog.get_logger("authmesh.call")
# UNAVAILABLE is no alarm of each call: what is away says so once, where it is noticed.
_LOUD = {"INTERNAL": "error", "DEADLINE_EXCEEDED": "warning", "OK": "debug"}


def circumstances(node: str) -> Processor:
    """What every line of a process says: its node, and the ids of the call that it belongs to."""

    def describe(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["node"] = node
        if call := current_call():
            event["request_id"], event["trace_id"] = call.request_id, call.trace_id
        return event

    return describe


@asynccontextmanager
async def telemetry(call: Call) -> AsyncIterator[None]:
    """The outermost stage: one line a call, at a level that its end deserves. Never a token, a password, a code or an
    address of mail.
    """
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
