"""Spans of a process: made for traced calls only, sent by OTLP/HTTP, and no burden when no one takes them."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from mesh.local.ports import free_port
from mesh.local.traces import TraceStore, serve
from mesh.operator.trace import Trace, rows
from mesh.telemetry import tracing
from mesh.telemetry.quiet import OncePerMinute
from mesh.telemetry.tracing import Tracing, outgoing, parent, server_span, span, statement_name
from tests.kit.conditions import until

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACED, NOT_TRACED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (TRACED, (TRACE, CALLER, True)),
        (NOT_TRACED, (TRACE, CALLER, False)),
        (f"00-{TRACE}-{CALLER}-03", (TRACE, CALLER, True)),
        ("", None),
        (f"01-{TRACE}-{CALLER}-01", None),
        (f"00-{'0' * 32}-{CALLER}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (TRACED.upper(), None),
        (f"{TRACED}-x", None),
    ],
)
def test_a_traceparent_is_read_as_w3c_says(text: str, found: object) -> None:
    assert parent(text) == found


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("SELECT a, b FROM accounts WHERE id = $1", "SELECT accounts"),
        ("\n    INSERT INTO outbox (kind)\n VALUES ($1)", "INSERT outbox"),
        ("UPDATE buckets SET x = 1", "UPDATE buckets"),
        ("delete from sessions where a = 1", "DELETE sessions"),
        ("SELECT 1", "SELECT"),
        ("COMMIT", "COMMIT"),
        ("", "statement"),
    ],
)
def test_a_statement_is_named_by_what_it_does_and_never_by_its_values(sql: str, name: str) -> None:
    assert statement_name(sql) == name


@asynccontextmanager
async def traced(port: int) -> AsyncIterator[None]:
    part = Tracing(f"http://127.0.0.1:{port}/v1/traces", "auth", "1.2.3")
    running = asyncio.create_task(part.run())
    try:
        # Whether the process traces is told nowhere else.
        await until(lambda: tracing._tracer is not None)
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_spans_of_a_traced_call_come_to_the_collector_as_a_tree() -> None:
    store, port = TraceStore(), free_port()
    runner = await serve("127.0.0.1", port, store)
    try:
        async with traced(port):
            with server_span("s/M", TRACED, rpc_method="s/M") as outer:
                assert outer is not None
                with span("UPDATE x", client=True, db_system="postgresql"):
                    assert outgoing() not in (None, TRACED)
                with suppress(ValueError), span("fails"):
                    raise ValueError
            with server_span("s/N", NOT_TRACED) as none, span("inside") as nothing:
                assert none is None
                assert nothing is None
                assert outgoing() is None

            await until(lambda: store.trace(TRACE) is not None)
    finally:
        await runner.cleanup()
    trace = store.trace(TRACE)
    assert trace is not None
    assert [(row.span.name, row.depth, row.span.failed) for row in rows(trace)] == [
        ("s/M", 0, False),
        ("UPDATE x", 1, False),
        ("fails", 1, True),
    ]
    first = next(rows(trace)).span
    assert (first.service, first.parent_id) == ("auth", CALLER)
    assert next(one for one in trace.spans if one.name == "fails").attributes["error.type"] == "ValueError"
    assert [one.attributes for one in trace.spans if one.name == "UPDATE x"] == [{"db.system": "postgresql"}]


async def test_what_waits_at_the_end_is_sent() -> None:
    store, port = TraceStore(), free_port()
    runner = await serve("127.0.0.1", port, store)
    try:
        async with traced(port):
            with server_span("s/M", TRACED):
                pass
        assert store.trace(TRACE) == Trace(TRACE, tuple(store.trace(TRACE).spans))  # type: ignore[union-attr]
    finally:
        await runner.cleanup()


async def test_a_collector_that_never_answers_holds_up_no_call_and_memory_is_bounded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        loop = asyncio.get_running_loop()
        async with traced(silent.getsockname()[1]):
            started = loop.time()
            for _ in range(2 * tracing.SPANS_WAITING):
                with server_span("s/M", TRACED):
                    pass
            assert loop.time() - started < 5
        assert loop.time() - started < 20
    assert len([record for record in caplog.records if record.name.startswith("opentelemetry")]) <= 4


def test_a_logger_that_repeats_itself_is_heard_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("mesh.telemetry.quiet.time.monotonic", lambda: now[0])
    once = OncePerMinute()

    def heard() -> str | None:
        record = logging.LogRecord("x", logging.WARNING, "", 1, "no way to %s", ("there",), None)
        return record.getMessage() if once.filter(record) else None

    assert [heard(), heard(), heard()] == ["no way to there", None, None]
    now[0] = 61
    assert heard() == "no way to there (and 2 like it)"
