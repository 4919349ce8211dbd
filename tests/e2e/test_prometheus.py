"""A real Prometheus scrapes the whole mesh: every question of the dashboard is answered, and nothing alarms."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mesh.local.ports import free_port
from mesh.render.watch import rules
from mesh.render.watch.definition import OBJECTIVES, PANELS
from tests.e2e.conftest import RunningMesh, eventually, sign_up

pytestmark = pytest.mark.slow


class Prometheus:
    """Its API."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer; None while it is not there yet."""
        try:
            answer = await self._http.get(f"/api/v1/{path}", params=parameters)
        except httpx.TransportError:
            return None
        return answer.json()["data"] if answer.status_code == 200 else None


@pytest.fixture
async def prometheus(mesh: RunningMesh, tmp_path: Path) -> AsyncIterator[Prometheus]:
    if not (program := shutil.which("prometheus")):
        pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)")
    targets = {node: address.removeprefix("http://") for node, address in mesh.status["observed"].items()}
    paths = (("authmesh", "/metrics", "edge"), ("authmesh-envoy", "/metrics/envoy", ""))
    jobs = [
        {
            "job_name": job,
            "metrics_path": path,
            "static_configs": [
                {"targets": [address], "labels": {"node": node}} for node, address in targets.items() if node != without
            ],
        }
        for job, path, without in paths
    ]
    seconds = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    content = {"global": seconds, "rule_files": ["rules.yaml"], "scrape_configs": jobs}
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "rules.yaml").write_text(rules().replace("interval: 30s", "interval: 1s"))
    address = f"127.0.0.1:{free_port()}"
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={tmp_path / 'prometheus.yaml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address={address}",
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=10) as http:
            asked = Prometheus(http)
            await eventually(lambda: asked.ask("status/runtimeinfo"))
            yield asked
    finally:
        process.terminate()
        await process.wait()


async def test_every_question_of_the_dashboard_is_answered_and_nothing_alarms(
    mesh: RunningMesh, prometheus: Prometheus
) -> None:
    client = mesh.clients["grpc"]
    person = await sign_up(mesh, client)

    async def all_up() -> bool:
        found = await prometheus.ask("targets")
        return bool(found) and all(one["health"] == "up" for one in found["activeTargets"])

    await eventually(all_up)
    # Between two scrapes, so that there are rates.
    for _ in range(4):
        await client.ok("UserService/GetUser", {"name": "users/me"}, person.token)
        await client.call("AuthService/SignIn", {"email": person.email, "password": "x" * 20, "client_id": "demo"})
        await mesh.clients["json"].ok("UserService/GetUser", {"name": "users/me"}, person.token)
        await asyncio.sleep(1)
    silent = [(panel.title, query) for panel in PANELS for _, query in panel.queries]

    async def all_answered() -> bool:
        for title, query in list(silent):
            found = await prometheus.ask("query", query=query)
            assert found is not None, f"{title}: {query}"
            if found["result"]:
                silent.remove((title, query))
        return not silent

    # A checkpoint is signed every minute, and what waits in outboxes is reported every 30 s.
    try:
        await eventually(all_answered, within=100)
    except TimeoutError:
        pytest.fail(f"no answer: {silent}")
    for objective in OBJECTIVES:
        found = await prometheus.ask("query", query=f'authmesh:slo_errors:ratio_rate5m{{slo="{objective.name}"}}')
        assert [value for _, value in (one["value"] for one in found["result"])] == ["0"], objective.name
    assert [one["labels"]["alertname"] for one in (await prometheus.ask("alerts"))["alerts"]] == []
