"""Spans of a process: what a traced call did, and for how long, in OpenTelemetry's terms.

The edge decides which calls are traced; a process follows what `traceparent` says (W3C Trace Context). Of others no
span is made: they cost one comparison. Spans are sent by OTLP/HTTP from a thread of their own, with bounds on what
waits; a collector that does not answer loses spans, and holds up no call.

Names are those of OpenTelemetry's semantic conventions. No statement's values, no request, and nothing of a person is
in a span.
"""

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mesh.runtime.part import Part
from mesh.telemetry.quiet import OncePerMinute

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

SPANS_WAITING = 4096
"""Ended spans that wait to be sent. Further ones are dropped."""
EXPORT_SECONDS = 2.0
"""For one attempt to send."""
END_SECONDS = 3.0
"""For what waits at the end of the process."""

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 0x01
_STATEMENT = re.compile(r"\b(SELECT|INSERT\s+INTO|UPDATE|DELETE\s+FROM)\b\s*(\w*)", re.IGNORECASE)
_FROM = re.compile(r"\bFROM\s+(\w+)", re.IGNORECASE)

_tracer: "Tracer | None" = None
"""None: this process traces nothing."""


def parent(traceparent: str) -> tuple[str, str, bool] | None:
    """Trace id, span id, and whether the call is traced, of a `traceparent`; None when it is not one."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return (found[1], found[2], bool(int(found[3], 16) & _SAMPLED)) if found else None


@contextmanager
def server_span(name: str, traceparent: str, **attributes: str) -> Iterator["Span | None"]:
    """The span of a call that came in. None when the call is not traced.

    Args:
        name: The method: `authmesh.auth.v1.AuthService/SignIn`.
        traceparent: As it came.
        attributes: Of the span; the first `_` of a name stands for a dot.
    """
    if _tracer is None or (found := parent(traceparent)) is None or not found[2]:
        yield None
        return
    from opentelemetry import trace

    trace_id, span_id, _ = found
    remote = trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(1))
    context = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    with _tracer.start_as_current_span(
        name,
        context,
        trace.SpanKind.SERVER,
        _dotted(attributes),
        # A refusal is an answer: `ended` says what it was.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield span


@contextmanager
def span(name: str, *, client: bool = False, **attributes: str) -> Iterator["Span | None"]:
    """A part of the traced call that the running code serves. None, and nothing is made, when there is none.

    Args:
        name: What is done, of few values.
        client: Whether another process does it.
        attributes: As of `server_span`.
    """
    if _tracer is None:
        yield None
        return
    from opentelemetry import trace

    if not trace.get_current_span().is_recording():
        yield None
        return
    kind = trace.SpanKind.CLIENT if client else trace.SpanKind.INTERNAL
    with _tracer.start_as_current_span(
        name, kind=kind, attributes=_dotted(attributes), record_exception=False, set_status_on_exception=False
    ) as made:
        try:
            yield made
        except BaseException as error:
            failed(made, type(error).__name__)
            raise


def _dotted(attributes: Mapping[str, str]) -> dict[str, str]:
    return {key.replace("_", ".", 1): value for key, value in attributes.items()}


def failed(made: "Span", why: str) -> None:
    """Marks a span as one that failed."""
    from opentelemetry.trace import Status, StatusCode

    made.set_attribute("error.type", why)
    made.set_status(Status(StatusCode.ERROR))


def outgoing() -> str | None:
    """The `traceparent` of a call that the running code makes, where it serves a traced one."""
    if _tracer is None:
        return None
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if not context.is_valid or not context.trace_flags.sampled:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


@lru_cache(1024)
def statement_name(sql: str) -> str:
    """What a statement does and to which table: `SELECT accounts`."""
    found = _STATEMENT.search(sql)
    if found is None:
        return sql.split(maxsplit=1)[0].upper() if sql.strip() else "statement"
    verb = found[1].split()[0].upper()
    source = _FROM.search(sql) if verb == "SELECT" else None
    return f"{verb} {source[1] if source else '' if verb == 'SELECT' else found[2]}".strip()


class Tracing(Part):
    """Sends the spans of this process while it runs."""

    name = "tracing"

    def __init__(self, endpoint: str, node: str, version: str) -> None:
        """Initializes the instance.

        Args:
            endpoint: Of the collector: `http://127.0.0.1:4318/v1/traces`.
            node: This process's name in mesh.yaml.
            version: Of the release.
        """
        self._endpoint, self._node, self._version = endpoint, node, version

    async def run(self) -> None:
        """Traces until it is cancelled, then sends what waits."""
        global _tracer
        provider = await asyncio.to_thread(self._provider)
        _tracer = provider.get_tracer("authmesh", self._version)
        try:
            await asyncio.Event().wait()
        finally:
            _tracer = None
            await asyncio.shield(asyncio.to_thread(provider.shutdown))

    def _provider(self) -> Any:
        # Imported when they are needed: 14 MB, and a tenth of a second.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        for name in ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal"):
            logging.getLogger(name).addFilter(OncePerMinute())
        resource = Resource(
            {
                "service.name": self._node,
                "service.namespace": "authmesh",
                "service.version": self._version,
            }
        )
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(self._endpoint, timeout=EXPORT_SECONDS)
        provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=SPANS_WAITING,
                schedule_delay_millis=500,
                max_export_batch_size=512,
                export_timeout_millis=END_SECONDS * 1000,
            )
        )
        return provider
