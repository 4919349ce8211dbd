"""Another mesh.yaml for Envoys that run, under load."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from mesh.contract import Contract
from mesh.local.apply import Change, Placements, apply, changes
from mesh.model.mesh import Mesh, load_mesh
from mesh.operator.errors import OperatorError
from tests.conftest import held
from tests.kit.envoy_chain import TOKENS, Chain, eventually, running
from tests.kit.protocols import method

CONTRACT = Contract.load()
LIST = "ResourceService/ListResources"
LIST_PATH = method(LIST).path


def with_weights(stable: int, canary: int, **limits: Any) -> Mesh:
    """The mesh with a second node behind Resource's router."""
    raw = load_mesh().model_dump(by_alias=True)
    like = next(node for node in raw["virtualNodes"] if node["name"] == "resource")
    raw["virtualNodes"] = (*raw["virtualNodes"], {**like, "name": "canary", "backends": ("token.authmesh",)})
    for router in raw["virtualRouters"]:
        for route in router["routes"] if router["name"] == "resource" else ():
            route["grpcRoute"]["action"]["weightedTargets"] = (
                {"virtualNode": "resource", "weight": stable},
                {"virtualNode": "canary", "weight": canary},
            )
            route["grpcRoute"]["timeout"] |= limits
    return Mesh.model_validate(raw)


RUNNING = ["token", "resource", "canary"]
"""Few: an Envoy that reloads takes eight inotify instances."""
STABLE, CANARY = with_weights(100, 0), with_weights(0, 100)


@pytest.fixture(scope="module")
async def chain() -> AsyncIterator[Chain]:
    async with held(running(STABLE, CONTRACT, RUNNING, reload=True)) as found:
        for node in {*STABLE.nodes} - {*RUNNING}:
            found.write(node)
        yield found


@pytest.fixture
async def placements(chain: Chain) -> AsyncIterator[Placements]:
    """Of the running Envoys, which run the stable mesh before a test and after it."""
    found = Placements(TOKENS, {name: chain.placement(name) for name in (*STABLE.nodes, chain.gateway)}, None)
    yield found
    await bring(changes(STABLE, CONTRACT, found))


async def bring(found: list[Change]) -> list[str]:
    return [told async for told in apply([one for one in found if one.node in (*RUNNING, "edge")])]


@dataclass
class Load:
    """Calls that go on, one after the other, on some connections."""

    outcomes: list[tuple[str, str]] = field(default_factory=list)

    async def calls(self, count: int) -> None:
        """Waits for so many more."""
        wanted = len(self.outcomes) + count

        async def made() -> bool:
            return len(self.outcomes) >= wanted

        await eventually(made)


@asynccontextmanager
async def loaded(chain: Chain) -> AsyncIterator[Load]:
    load, token = Load(), chain.signer.token()

    async def one() -> None:
        async with held(chain.open_clients()) as clients:
            while True:
                load.outcomes.append((await clients["grpc"].call(LIST, {}, token)).outcome)

    callers = [asyncio.create_task(one()) for _ in range(4)]
    try:
        yield load
    finally:
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)


async def served_by(chain: Chain, load: Load) -> Mapping[str, int]:
    """Which process has the calls now."""
    for node in ("resource", "canary"):
        chain.processes[node].heard.clear()
    await load.calls(60)
    return {
        node: len([one for one in chain.processes[node].heard if one.path == LIST_PATH])
        for node in ("resource", "canary")
    }


async def test_weights_move_under_load_and_no_call_fails(chain: Chain, placements: Placements) -> None:
    async with loaded(chain) as load:
        assert (await served_by(chain, load))["canary"] == 0
        assert await bring(changes(CANARY, CONTRACT, placements)) == [
            "clusters are there",
            "routes and listeners changed",
            "done",
        ]
        assert (await served_by(chain, load))["resource"] == 0
        await bring(changes(STABLE, CONTRACT, placements))
        assert (await served_by(chain, load))["canary"] == 0
    assert set(load.outcomes) == {("OK", "")}


async def test_bounds_timeouts_and_limits_change_under_load_and_no_call_fails(
    chain: Chain, placements: Placements
) -> None:
    """Clusters, routes and the edge's listener at once."""
    raw = STABLE.model_dump(by_alias=True)
    for node in raw["virtualNodes"]:
        node["listener"]["connectionPool"]["maxRequests"] = 77
    for router in raw["virtualRouters"]:
        for route in router["routes"]:
            route["grpcRoute"]["timeout"]["perRequest"] = "7s"
    raw["virtualGateway"]["maxRequests"] = 3000
    async with loaded(chain) as load:
        await load.calls(20)
        found = changes(Mesh.model_validate(raw), CONTRACT, placements)
        assert {change.node for change in found} == {*STABLE.nodes, chain.gateway}
        await bring(found)
        await load.calls(20)
    assert set(load.outcomes) == {("OK", "")}
    told = await chain.admin(chain.gateway, "GET", "/config_dump")
    assert '"max_requests": 77' in told
    assert '"max_stream_duration": "7s"' in told


async def test_what_an_envoy_refuses_is_nowhere_afterwards(chain: Chain, placements: Placements) -> None:
    (change,) = [one for one in changes(CANARY, CONTRACT, placements) if one.node == chain.gateway]
    (routes,) = [name for name in change.after if name.startswith("rds_")]
    broken = replace(change, after={**change.after, routes: change.after[routes].replace("weight: 100", "weight: -1")})
    async with loaded(chain) as load:
        with pytest.raises(OperatorError, match=rf"of {chain.gateway} refuses rds\.{routes[:-5]}.*had before"):
            await bring([broken])
        assert (await served_by(chain, load))["canary"] == 0
    assert set(load.outcomes) == {("OK", "")}
    assert not changes(STABLE, CONTRACT, placements)


async def test_an_envoy_that_is_gone_is_told_of(chain: Chain, placements: Placements) -> None:
    found = [
        replace(one, placement=replace(one.placement, admin_socket=Path("/nowhere")))
        for one in changes(CANARY, CONTRACT, placements)
    ]
    with pytest.raises(OperatorError, match="does not answer"):
        await bring(found)


async def test_what_needs_a_restart_is_said_and_nothing_changes(chain: Chain, placements: Placements) -> None:
    raw = STABLE.model_dump(by_alias=True)
    raw["virtualGateway"]["maxHeapBytes"] *= 2
    with pytest.raises(OperatorError, match="maxHeapBytes"):
        changes(Mesh.model_validate(raw), CONTRACT, placements)
    with pytest.raises(OperatorError, match="nodes come or go \\(canary\\)"):
        changes(load_mesh(), CONTRACT, placements)
    static = replace(placements, envoys={node: replace(one, reload=False) for node, one in placements.envoys.items()})
    with pytest.raises(OperatorError, match="max_user_instances"):
        changes(CANARY, CONTRACT, static)


def test_placements_are_read_as_they_were_written(chain: Chain, placements: Placements, tmp_path: Path) -> None:
    placements.write(tmp_path / "placements.json")
    assert Placements.read(tmp_path / "placements.json") == placements
    (tmp_path / "placements.json").write_text("{}")
    with pytest.raises(OperatorError, match="make run-mesh"):
        Placements.read(tmp_path / "placements.json")
