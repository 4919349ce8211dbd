"""Metrics on a unix socket, as a scraper asks for them."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_format

from mesh.telemetry.exposition import Exposition
from mesh.telemetry.metrics import REGISTRY
from tests.kit.conditions import until

DOCS = Path(__file__).parents[4] / "docs" / "metrics.md"


@pytest.fixture
async def scraper(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    registry = CollectorRegistry()
    Counter("things", "Things", ("kind",), registry=registry).labels("a").inc(3)
    socket = tmp_path / "metrics"
    # Left over from a process that was killed.
    socket.write_text("")
    running = asyncio.create_task(Exposition(socket, registry).run())
    await until(socket.is_socket)
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://metrics") as client:
        yield client
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert not socket.exists()


async def test_a_scraper_gets_the_format_that_it_asks_for(scraper: httpx.AsyncClient) -> None:
    plain = await scraper.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert [one.name for one in text_format(plain.text)] == ["things"]
    modern = await scraper.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.text.endswith("# EOF\n")
    (family,) = open_metrics(modern.text)  # type: ignore[no-untyped-call] # the parser has no types
    assert {sample.value for sample in family.samples} == {3}


async def test_there_is_nothing_else_there(scraper: httpx.AsyncClient) -> None:
    assert (await scraper.get("/")).status_code == 404
    assert (await scraper.post("/metrics", content=b"x" * 100_000)).status_code == 405


def test_every_metric_of_ours_is_in_the_docs_and_none_else() -> None:
    described = set(re.findall(r"`(authmesh_[a-z_]+)`", DOCS.read_text()))
    present = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in REGISTRY.collect()
        if family.name.startswith("authmesh_")
    }
    assert described == present
