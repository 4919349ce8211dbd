"""Which replicas the edge calls: those that work, whatever a caller sends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml
from grpc import aio

from mesh.contract import Contract
from mesh.model.mesh import load_mesh
from mesh.render.envoy.names import node_cluster
from tests.conftest import held
from tests.kit.envoy_chain import Chain, eventually, running
from tests.kit.protocols import Client, GrpcClient, method
from tests.kit.raw_http2 import connected, grpc_head

CONTRACT = Contract.load()
MESH = load_mesh()
REVOKE = method("TokenService/RevokeToken")
CLUSTER = node_cluster(MESH, "token")
SECOND = "token-2"


@pytest.fixture
async def chain() -> AsyncIterator[Chain]:
    async with held(running(MESH, CONTRACT, ["auth", "token"])) as found:
        await add_replica(found)
        yield found
        await found.stop(SECOND)


async def add_replica(chain: Chain) -> None:
    """A second sidecar for the process of Token, and an edge that knows both."""
    await chain.start(SECOND)
    file = chain.placement("edge").config / "cds.yaml"
    clusters = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
    cluster = next(item for item in clusters["resources"] if item["name"] == CLUSTER)
    address = chain.addresses[SECOND]
    endpoint = {"endpoint": {"address": {"socket_address": {"address": address.host, "port_value": address.port}}}}
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"].append(endpoint)
    (file.parent / "next").write_text(yaml.safe_dump(clusters))
    (file.parent / "next").rename(file)

    async def both_are_healthy() -> bool:
        return await stat(chain, "membership_healthy") == 2

    await eventually(both_are_healthy)


async def stat(chain: Chain, name: str) -> int:
    lines = (await chain.admin("edge", "GET", f"/stats?filter=^cluster.{CLUSTER}.{name}$")).splitlines()
    return int(lines[0].rpartition(":")[2]) if lines else -1


async def ejected(chain: Chain) -> int:
    return await stat(chain, "outlier_detection.ejections_enforced_total")


async def test_deadlines_of_callers_eject_no_replica(chain: Chain) -> None:
    async def slow(context: "aio.ServicerContext[Any, Any]") -> Any:
        await asyncio.sleep(0.05)
        return CONTRACT.message_type(REVOKE.output_type)()

    chain.processes["token"].answers[REVOKE.path] = slow
    async with connected(chain.edge, chain.client_context()) as connection:
        for timeout in ("1n", "1m", "2m", "10m", "40m", "49m", "50m", "51m"):
            calls = [
                await connection.request(grpc_head(REVOKE.path, ("grpc-timeout", timeout)), bytes(5)) for _ in range(20)
            ]
            for call in calls:
                assert (await call.end()).headers["grpc-status"] in {"0", "4"}, call.headers
    assert await ejected(chain) == 0
    # The process heard no deadline of theirs.
    assert not [heard for heard in chain.processes["token"].heard if "grpc-timeout" in heard.metadata]


async def test_headers_of_every_size_eject_no_replica(chain: Chain) -> None:
    async with chain.open_clients() as clients:
        client = clients["grpc"]
        assert isinstance(client, GrpcClient)
        outcomes = set()
        for size in range(31_500, 33_000, 50):
            answers = await asyncio.gather(
                *(client.send(REVOKE, b"", None, [("x-padding", "x" * size)]) for _ in range(12))
            )
            outcomes |= {answer.status for answer in answers}
    assert len(outcomes) > 1, "the edge's limit is not among these sizes"
    assert await ejected(chain) == 0


async def test_a_replica_that_is_gone_is_left_alone_and_good_calls_go_on(chain: Chain) -> None:
    await chain.stop(SECOND)

    async def one_is_left() -> bool:
        async with chain.open_clients() as clients:
            client: Client = clients["grpc"]
            assert isinstance(client, GrpcClient)
            await asyncio.gather(*(client.send(REVOKE, b"") for _ in range(10)))
        return await ejected(chain) == 1

    await eventually(one_is_left)
    async with chain.open_clients() as clients:
        for _ in range(20):
            assert (await clients["grpc"].call("TokenService/RevokeToken", {})).status == "OK"
