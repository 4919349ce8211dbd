"""The collector of the local mesh: bounded, for this machine, and nothing that it is sent becomes part of its page."""

import zlib
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mesh.local import traces
from mesh.local.ports import free_port
from mesh.local.traces import TraceStore
from mesh.operator.trace import Span

SPAN = Span("a" * 32, "b" * 16, "", "auth", "s/M", 1_000_000, 3_000_000, False, {})
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def store() -> TraceStore:
    return TraceStore(10)


@pytest.fixture
async def client(store: TraceStore) -> AsyncIterator[httpx.AsyncClient]:
    port = free_port()
    runner = await traces.serve("127.0.0.1", port, store)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as found:
        yield found
    await runner.cleanup()


def exported(name: str = "s/M", **attributes: str) -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "auth"
    spans = resource.scope_spans.add().spans
    span = spans.add(trace_id=b"\1" * 16, span_id=b"\1" * 8, name=name)
    span.start_time_unix_nano, span.end_time_unix_nano = 1_000_000, 3_000_000
    for key, value in attributes.items():
        span.attributes.add(key=key).value.string_value = value
    return request.SerializeToString()


async def test_spans_are_taken_and_shown(client: httpx.AsyncClient, store: TraceStore) -> None:
    body = exported(**{"authmesh.request_id": "r-1", "rpc.method": "s/M", "rpc.response.status_code": "OK"})
    assert (await client.post("/v1/traces", content=body)).status_code == 200
    page = (await client.get("/")).text
    assert "s/M" in page
    assert "2.0 ms" in page
    for wanted in ("01" * 16, "r-1"):
        assert "<b>s/M</b>" in (await client.get(f"/traces/{wanted}")).text
        assert (await client.get(f"/api/traces/{wanted}")).json()["id"] == "01" * 16
    assert (await client.get("/api/traces")).json()[0]["status"] == "OK"
    assert (await client.get("/traces/unknown")).status_code == 404


async def test_what_is_sent_never_becomes_part_of_the_page(client: httpx.AsyncClient) -> None:
    await client.post("/v1/traces", content=exported(EVIL, **{"error.type": EVIL, "rpc.method": EVIL}))
    for path in ("/", f"/traces/{'01' * 16}"):
        answer = await client.get(path)
        assert EVIL not in answer.text
        assert "&lt;script&gt;" in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_pages_of_other_sites_get_nothing(client: httpx.AsyncClient) -> None:
    assert (await client.get("/", headers={"host": "evil.example"})).status_code == 403
    assert (await client.get("/api/traces", headers={"origin": "https://evil.example"})).status_code == 403
    assert (await client.post("/v1/traces", content=exported(), headers={"origin": "null"})).status_code == 403


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff\xff", {}, 400),
        (b"not gzip", {"content-encoding": "gzip"}, 400),
        (b"x" * (traces.BODY_LIMIT + 1), {}, 413),
        (zlib.compress(bytes(64 * 1024 * 1024), wbits=31), {"content-encoding": "gzip"}, 413),
    ],
)
async def test_what_is_not_an_export_is_refused(
    client: httpx.AsyncClient, body: bytes, headers: dict[str, str], status: int, store: TraceStore
) -> None:
    assert (await client.post("/v1/traces", content=body, headers=headers)).status_code == status
    assert not list(store.newest())


async def test_what_is_long_is_cut(client: httpx.AsyncClient, store: TraceStore) -> None:
    many = {f"k{number}": "v" * 5000 for number in range(50)}
    await client.post("/v1/traces", content=exported("n" * 5000, **many))
    (trace,) = store.newest()
    (span,) = trace.spans
    assert len(span.name) == traces.LONGEST
    assert len(span.attributes) == traces.ATTRIBUTES
    assert max(map(len, span.attributes.values())) == traces.LONGEST


def test_the_oldest_traces_go(store: TraceStore) -> None:
    for number in range(30):
        store.add(replace(SPAN, trace_id=f"{number:032}"))
    kept = [trace.id for trace in store.newest()]
    assert kept == [f"{number:032}" for number in range(29, 19, -1)]


def test_one_trace_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "SPANS_OF_A_TRACE", 5)
    store = TraceStore(100)
    for number in range(50):
        store.add(replace(SPAN, span_id=f"{number:016}"))
    (trace,) = store.newest()
    assert len(trace.spans) == 5
