"""Accounts that take all they can get, and everybody else, who notices nothing."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import grpc
import pytest
from grpc import aio

from mesh.operator.target import Target
from mesh.rpc.channel import OPTIONS
from tests.e2e.conftest import Person, RunningMesh, sign_up
from tests.kit.protocols import GrpcClient
from tests.kit.under_attack import good_calls

PLACES = 200
"""Streams of one process."""


@asynccontextmanager
async def connected(mesh: RunningMesh) -> AsyncIterator[GrpcClient]:
    """A client with a connection of its own."""
    credentials = grpc.ssl_channel_credentials(Path(mesh.status["ca_file"]).read_bytes())
    options = [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    async with aio.secure_channel(urlsplit(mesh.status["edge"]).netloc, credentials, options=options) as channel:
        yield GrpcClient(channel)


async def next_added(changes: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    async for change in changes:
        if change["change"] == "CHANGE_ADDED":
            return change
    raise AssertionError


async def share_with_a_thousand(mesh: RunningMesh, name: str) -> None:
    """As a thousand calls of ShareResource do, whose people exist."""
    database = await asyncpg.connect(
        Target(environment=os.environ | {"AUTHMESH_HOME": str(mesh.home)}).database_url("resource")
    )
    await database.execute(
        """
        INSERT INTO shares (id, resource_id, grantee, holder_id, role, create_time)
        SELECT holder, $1, 'users/' || holder, holder, 1, now()
        FROM (SELECT gen_random_uuid() AS holder FROM generate_series(1, 1000)) people
        """,
        name.removeprefix("resources/"),
    )
    await database.close()


@pytest.mark.slow
async def test_one_who_updates_what_a_thousand_people_see_keeps_nobody_waiting(
    mesh: RunningMesh, person: Person
) -> None:
    client = mesh.clients["grpc"]
    assert isinstance(client, GrpcClient)
    other = await sign_up(mesh, client)
    made = await client.ok("ResourceService/CreateResource", {"resource": {"displayName": "big"}}, person.token)
    await share_with_a_thousand(mesh, made["name"])
    ends = time.monotonic() + 5

    async def attack(number: int) -> None:
        while time.monotonic() < ends:
            request = {"resource": {"name": made["name"], "content": f"{number} {time.monotonic()}"}}
            await client.call("ResourceService/UpdateResource", request, person.token)

    delays = []
    ask = partial(client.call, "ResourceService/ListResources", {}, other.token)
    async with good_calls(ask), client.stream("ResourceService/WatchResources", {}, other.token) as changes:
        await anext(changes)
        attacks = [asyncio.create_task(attack(number)) for number in range(8)]
        while time.monotonic() < ends - 1:
            started = time.monotonic()
            await client.ok("ResourceService/CreateResource", {"resource": {"displayName": "small"}}, other.token)
            await next_added(changes)
            delays.append(time.monotonic() - started)
        await asyncio.gather(*attacks)
    # It was 67 seconds.
    assert max(delays) < 2


@pytest.mark.slow
async def test_ten_accounts_do_not_close_watches_for_everybody_else(mesh: RunningMesh, person: Person) -> None:
    client = mesh.clients["grpc"]
    assert isinstance(client, GrpcClient)
    greedy = [await sign_up(mesh, client) for _ in range(10)]
    ask = partial(client.call, "ResourceService/ListResources", {}, person.token)
    async with AsyncExitStack() as stack, good_calls(ask):
        ended: list[str] = []

        async def hold(account: Person, connection: GrpcClient) -> None:
            async with connection.stream("ResourceService/WatchResources", {}, account.token) as changes:
                await anext(changes)
                opened.release()
                try:
                    async for _ in changes:
                        pass
                except aio.AioRpcError as error:
                    ended.append(error.details() or "")

        opened, holding = asyncio.Semaphore(0), []
        # The edge lets a connection have a hundred streams at most.
        connections = [await stack.enter_async_context(connected(mesh)) for _ in range(4)]
        for number in range(PLACES):
            holding.append(asyncio.create_task(hold(greedy[number % 10], connections[number % 4])))
            stack.callback(holding[-1].cancel)
        for _ in range(PLACES):
            await opened.acquire()
        assert not ended
        for newcomer in (person, await sign_up(mesh, client)):
            changes = await stack.enter_async_context(
                client.stream("ResourceService/WatchResources", {}, newcomer.token)
            )
            await anext(changes)
            await client.ok("ResourceService/CreateResource", {"resource": {"displayName": "new"}}, newcomer.token)
            assert (await next_added(changes))["resource"]["displayName"] == "new"
        async with asyncio.timeout(5):
            while len(ended) < 2:
                await asyncio.sleep(0.01)
        assert all("others need the place" in error for error in ended)
