"""Metrics of the whole mesh: what happened is counted where it happened, and nothing of a person is in them."""

import secrets
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import RunningMesh, eventually, sign_up
from tests.kit.protocols import GrpcClient, JsonClient

NODES = ("auth", "token", "user", "resource", "audit")
MOST_SERIES = 2_000
"""Of one process: methods times buckets, and a few more."""

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
async def scraper() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=10) as client:
        yield client


async def scraped(mesh: RunningMesh, scraper: httpx.AsyncClient, node: str, path: str = "/metrics") -> Series:
    answer = await scraper.get(mesh.status["observed"][node] + path)
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def total(series: Series, name: str, **having: str) -> float:
    return sum(value for (found, labels), value in series.items() if found == name and having.items() <= set(labels))


async def test_a_call_is_counted_by_its_method_status_and_reason(mesh: RunningMesh, scraper: httpx.AsyncClient) -> None:
    client = mesh.clients["grpc"]
    person = await sign_up(mesh, client)
    of_user, of_auth = await scraped(mesh, scraper, "user"), await scraped(mesh, scraper, "auth")
    for _ in range(5):
        await client.ok("UserService/GetUser", {"name": "users/me"}, person.token)
    wrong = {"email": person.email, "password": "not this one, but long", "client_id": "demo"}
    assert (await client.call("AuthService/SignIn", wrong)).reason == "CREDENTIALS_INVALID"
    user, auth = await scraped(mesh, scraper, "user"), await scraped(mesh, scraper, "auth")
    calls = "authmesh_rpc_calls_total"
    good = {"method": "GetUser", "status": "OK"}
    assert total(user, calls, **good) - total(of_user, calls, **good) >= 5
    refused = {"method": "SignIn", "status": "UNAUTHENTICATED", "reason": "CREDENTIALS_INVALID"}
    assert total(auth, calls, **refused) - total(of_auth, calls, **refused) >= 1
    assert total(user, "authmesh_rpc_seconds_count", method="GetUser") >= 5
    assert total(user, "authmesh_tokens_verified_total", from_memory="yes") >= 4
    assert total(auth, "authmesh_hash_seconds_count") >= 1


@pytest.mark.parametrize("node", NODES)
async def test_every_process_says_how_it_is(mesh: RunningMesh, scraper: httpx.AsyncClient, node: str) -> None:
    series = await scraped(mesh, scraper, node)
    assert total(series, "authmesh_build_info", node=node) == 1
    assert total(series, "authmesh_part_ready", part="database") == 1
    assert total(series, "authmesh_part_ready", part="revocations") == 1
    assert 0 <= total(series, "authmesh_revocation_staleness_seconds") < 10
    assert total(series, "authmesh_loop_lag_seconds_count") > 0
    assert total(series, "authmesh_database_connections", state="open") >= 1
    assert total(series, "process_resident_memory_bytes") > 2**20


@pytest.mark.parametrize("node", [*NODES, "edge"])
async def test_so_does_every_envoy(mesh: RunningMesh, scraper: httpx.AsyncClient, node: str) -> None:
    series = await scraped(mesh, scraper, node, "/metrics/envoy")
    assert total(series, "envoy_server_live") == 1
    expiry = [value for (name, _), value in series.items() if name.endswith("certificate_expiration_unix_time_seconds")]
    assert expiry
    assert min(expiry) > 0


async def test_nothing_of_a_person_and_nothing_that_a_caller_makes_up_is_in_a_label(
    mesh: RunningMesh, scraper: httpx.AsyncClient
) -> None:
    client = mesh.clients["grpc"]
    person = await sign_up(mesh, client)
    before = {node: len(await scraped(mesh, scraper, node)) for node in NODES}
    made_up = secrets.token_hex(8)
    grpc, json = client, mesh.clients["json"]
    assert isinstance(grpc, GrpcClient)
    assert isinstance(json, JsonClient)
    for number in range(20):
        headers = [("x-request-id", f"{made_up}{number}"), ("user-agent", f"{made_up}{number}")]
        await json.send("GET", f"/v1/{made_up}{number}", headers=headers)
        await grpc.call("UserService/GetUser", {"name": f"users/{made_up}{number}"}, person.token, headers=headers)
        email = f"{made_up}{number}@example.com"
        await grpc.call("AuthService/SignIn", {"email": email, "password": made_up * 2, "client_id": made_up})
        await grpc.call("TokenService/RefreshToken", {"refresh_token": made_up, "client_id": f"{made_up}{number}"})
    secret = (made_up, person.email, person.token, str(person.claims["sub"]), person.tokens["refreshToken"])
    for node in NODES:
        for path in ("/metrics", "/metrics/envoy"):
            text = (await scraper.get(mesh.status["observed"][node] + path)).text
            assert not [value for value in secret if value in text]
        after = await scraped(mesh, scraper, node)
        # A handful of methods and reasons that had not been met before, with the buckets of each.
        assert len(after) - before[node] < 100
        assert len(after) < MOST_SERIES


@pytest.mark.parametrize("path", ["/stats", "/config_dump", "/quitquitquit", "/metrics/../config_dump", "/metricsx"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_envoys_administration_is_not_there(
    mesh: RunningMesh, scraper: httpx.AsyncClient, method: str, path: str
) -> None:
    address = mesh.status["observed"]["auth"]
    answer = await scraper.request(method, httpx.URL(address).copy_with(raw_path=path.encode()))
    assert answer.status_code == 404


async def test_a_web_page_whose_name_leads_to_this_machine_reads_nothing(
    mesh: RunningMesh, scraper: httpx.AsyncClient
) -> None:
    for path in ("/metrics", "/metrics/envoy"):
        answer = await scraper.get(mesh.status["observed"]["auth"] + path, headers={"host": "rebound.example"})
        assert answer.status_code == 404


async def test_top_shows_every_node(mesh: RunningMesh) -> None:
    status, output, errors = await mesh.authmesh("top", "--once", "--interval", "0.5")
    assert (status, errors) == (0, "")
    heading, *rows = output.splitlines()
    assert heading.split()[:3] == ["NODE", "READY", "CALLS/S"]
    assert {row.split()[0]: row.split()[1] for row in rows if row.strip()} == dict.fromkeys((*NODES, "edge"), "yes")


async def test_top_without_a_mesh_says_how_to_start_one(mesh: RunningMesh, tmp_path: object) -> None:
    elsewhere = RunningMesh(mesh.home / "nowhere", mesh.process, {})
    status, output, errors = await elsewhere.authmesh("top", "--once")
    assert (status, output) == (1, "")
    assert "make run-mesh" in errors


async def test_an_entry_that_waits_has_an_age(mesh: RunningMesh, scraper: httpx.AsyncClient) -> None:
    async def reported() -> bool:
        series = await scraped(mesh, scraper, "auth")
        return any(name == "authmesh_outbox_parked" for name, _ in series)

    await eventually(reported, within=40)
