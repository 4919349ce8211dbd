"""The local mesh's own collector: takes spans by OTLP/HTTP, keeps the newest, and shows each trace as a waterfall.

For one machine: it listens on the loopback address, keeps a bounded number of spans in memory, and forgets them at its
end. In production a collector of OpenTelemetry takes its place.
"""

import html
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from aiohttp import web
from google.protobuf.message import DecodeError

from mesh.operator.trace import Span, Trace, rows

SPANS_KEPT = 20_000
SPANS_OF_A_TRACE = 1_000
"""Further ones of the same trace are counted and dropped."""
ATTRIBUTES = 20
LONGEST = 200
"""Characters of a name or a value that are kept."""
BODY_LIMIT = 4 * 1024 * 1024
LISTED = 200
"""Traces on the first page."""
_HOSTS = ("localhost", "127.0.0.1")
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.2rem}a{color:#0b5cad;text-decoration:none}a:hover{text-decoration:underline}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2rem .6rem .2rem 0;vertical-align:top}
th{font-weight:600;color:#59636e}tr+tr td{border-top:1px solid #eaeef2}.n{text-align:right;white-space:nowrap}
.bar{position:relative;height:.8rem;background:#f3f5f7;border-radius:2px;min-width:20rem;margin-top:.35rem}
.bar i{position:absolute;top:0;bottom:0;background:#4c8dd6;border-radius:2px;min-width:2px}.bad i{background:#c93c37}
.bad .s{color:#c93c37}small{color:#59636e}
@media(prefers-color-scheme:dark){body{color:#d6dde4;background:#14181d}a{color:#6cb0f5}th,small{color:#8f9aa6}
tr+tr td{border-color:#262c33}.bar{background:#20262d}}
"""


class TraceStore:
    """The newest traces, within bounds."""

    def __init__(self, most: int = SPANS_KEPT) -> None:
        self._most = most
        self._traces: OrderedDict[str, list[Span]] = OrderedDict()
        self._count = 0

    def add(self, span: Span) -> None:
        """Takes a span; the oldest traces go when there are too many."""
        spans = self._traces.setdefault(span.trace_id, [])
        if len(spans) >= SPANS_OF_A_TRACE:
            return
        spans.append(span)
        self._count += 1
        while self._count > self._most:
            _, gone = self._traces.popitem(last=False)
            self._count -= len(gone)

    def trace(self, wanted: str) -> Trace | None:
        """By its id, or by the request id of one of its calls."""
        if wanted in self._traces:
            return Trace(wanted, tuple(self._traces[wanted]))
        for trace_id, spans in reversed(self._traces.items()):
            if any(span.attributes.get("authmesh.request_id") == wanted for span in spans):
                return Trace(trace_id, tuple(spans))
        return None

    def newest(self, count: int = LISTED) -> Iterator[Trace]:
        """The newest first."""
        for number, (trace_id, spans) in enumerate(reversed(self._traces.items())):
            if number >= count:
                return
            yield Trace(trace_id, tuple(spans))


async def serve(host: str, port: int, store: TraceStore) -> web.AppRunner:
    """Serves until the runner is cleaned up."""
    application = web.Application(client_max_size=BODY_LIMIT, middlewares=[_from_here])
    pages = _Pages(store)
    application.router.add_post("/v1/traces", pages.take)
    application.router.add_get("/", pages.overview)
    application.router.add_get("/traces/{id}", pages.waterfall)
    application.router.add_get("/api/traces", pages.overview_json)
    application.router.add_get("/api/traces/{id}", pages.trace_json)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    # The port is held for us meanwhile.
    await web.TCPSite(runner, host, port, reuse_port=True).start()
    return runner


@web.middleware
async def _from_here(request: web.Request, handler: Any) -> web.StreamResponse:
    """Refuses pages of other sites: by another name of this machine (DNS rebinding), or with an origin."""
    if (request.url.host or "") not in _HOSTS or "origin" in request.headers:
        return web.Response(status=403, text="only for this machine\n")
    response: web.StreamResponse = await handler(request)
    response.headers.update(_HEADERS)
    return response


class _Pages:
    def __init__(self, store: TraceStore) -> None:
        self._store = store

    async def take(self, request: web.Request) -> web.Response:
        """`POST /v1/traces` of OTLP/HTTP, in protobuf."""
        try:
            spans = list(read(await request.read()))
        except (DecodeError, web.RequestPayloadError):
            return web.Response(status=400, text="not an ExportTraceServiceRequest\n")
        for span in spans:
            self._store.add(span)
        return web.Response(content_type="application/x-protobuf")

    async def overview(self, request: web.Request) -> web.Response:
        """The newest traces."""
        lines = "".join(_line(trace) for trace in self._store.newest())
        head = "<tr><th>When</th><th>Call</th><th>Status</th><th class=n>Took</th><th class=n>Spans</th></tr>"
        table = f"<table>{head}{lines}</table>" if lines else "<p>No call was traced yet.</p>"
        return _page("Traces", f"<h1>Traces</h1>{table}")

    async def waterfall(self, request: web.Request) -> web.Response:
        """One trace."""
        trace = self._store.trace(request.match_info["id"])
        if trace is None:
            return web.Response(status=404, text="there is no such trace: it may have gone, only the newest are kept\n")
        return _page(trace.name, _waterfall(trace))

    async def overview_json(self, request: web.Request) -> web.Response:
        """For `authmesh trace`."""
        return web.json_response([_summary(trace) for trace in self._store.newest()])

    async def trace_json(self, request: web.Request) -> web.Response:
        """For `authmesh trace ID`."""
        trace = self._store.trace(request.match_info["id"])
        if trace is None:
            return web.json_response({"message": "there is no such trace"}, status=404)
        return web.json_response({"id": trace.id, "spans": [asdict(span) for span in trace.spans]})


def read(body: bytes) -> Iterator[Span]:
    """The spans of an ExportTraceServiceRequest.

    Raises:
        DecodeError: it is not one.
    """
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        named = {one.key: one.value.string_value for one in resource.resource.attributes}
        service = named.get("service.name", "")[:LONGEST]
        for scope in resource.scope_spans:
            for one in scope.spans:
                attributes = {
                    item.key[:LONGEST]: _value(item.value)[:LONGEST] for item in list(one.attributes)[:ATTRIBUTES]
                }
                yield Span(
                    one.trace_id.hex(),
                    one.span_id.hex(),
                    one.parent_span_id.hex(),
                    service,
                    one.name[:LONGEST],
                    one.start_time_unix_nano,
                    one.end_time_unix_nano,
                    one.status.code == one.status.STATUS_CODE_ERROR,
                    attributes,
                )


def _value(value: Any) -> str:
    kind = value.WhichOneof("value")
    return str(getattr(value, kind)) if kind in ("string_value", "int_value", "double_value", "bool_value") else ""


def _summary(trace: Trace) -> dict[str, Any]:
    return {
        "id": trace.id,
        "name": trace.name,
        "status": trace.status,
        "failed": trace.failed,
        "started": trace.started,
        "milliseconds": trace.milliseconds,
        "spans": len(trace.spans),
    }


def _page(title: str, body: str) -> web.Response:
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style>{body}</html>"
    )
    return web.Response(text=text, content_type="text/html")


def _line(trace: Trace) -> str:
    bad = ' class="bad"' if trace.failed else ""
    return (
        f"<tr{bad}><td>{html.escape(trace.started)}</td>"
        f'<td><a href="/traces/{html.escape(trace.id)}">{html.escape(trace.name)}</a></td>'
        f'<td class="s">{html.escape(trace.status)}</td><td class=n>{trace.milliseconds:,.1f} ms</td>'
        f"<td class=n>{len(trace.spans)}</td></tr>"
    )


def _waterfall(trace: Trace) -> str:
    lines = []
    for row in rows(trace):
        span = row.span
        told = ", ".join(f"{key}={value}" for key, value in sorted(span.attributes.items()) if key in SHOWN and value)
        bad = ' class="bad"' if span.failed else ""
        lines.append(
            f'<tr{bad}><td style="padding-left:{row.depth * 1.1:.1f}rem"><b>{html.escape(span.name)}</b> '
            f"<small>{html.escape(span.service)}</small><br><small>{html.escape(told)}</small></td>"
            f'<td><div class="bar"><i style="left:{row.left:.2%};width:{row.width:.2%}"></i></div></td>'
            f'<td class="n s">{span.milliseconds:,.2f} ms</td></tr>'
        )
    head = (
        f"<p><a href='/'>All traces</a></p><h1>{html.escape(trace.name)}: {html.escape(trace.status)}, "
        f"{trace.milliseconds:,.1f} ms</h1><p><small>{html.escape(trace.id)}, {html.escape(trace.started)}</small></p>"
    )
    return f"{head}<table>{''.join(lines)}</table>"


SHOWN: Sequence[str] = (
    "rpc.response.status_code",
    "authmesh.reason",
    "authmesh.caller",
    "authmesh.request_id",
    "error.type",
    "http.status_code",
    "grpc.status_code",
    "response_flags",
    "upstream_cluster.name",
)
