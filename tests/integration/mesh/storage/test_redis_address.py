"""The primary is found by whichever Sentinel answers, and is another one after a failover."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from mesh.storage import redis_address
from mesh.storage.redis_address import RedisAddress
from tests.kit.valkey_sets import Set, sentinel_set

pytestmark = pytest.mark.slow


@pytest.fixture
async def valkeys(tmp_path: Path) -> AsyncIterator[Set]:
    async with sentinel_set(tmp_path) as made:
        yield made


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """A host that takes connections and says nothing."""
    ended = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    ended.set()
    server.close()


async def port_of(address: str) -> int:
    async with RedisAddress.parse(address).connect("key", name="test") as client:
        return int((await client.info("server"))["tcp_port"])


async def test_a_sentinel_that_is_dead_or_silent_is_passed_over(
    valkeys: Set, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_address, "CONNECT_SECONDS", 0.5)
    scheme, _, hosts = valkeys.url.rpartition("@")
    async with asyncio.timeout(10):
        assert await port_of(f"{scheme}@127.0.0.1:1,{silent},{hosts}") == valkeys.primary.port


async def test_a_set_that_no_sentinel_knows_has_no_primary(valkeys: Set) -> None:
    with pytest.raises(RedisError):
        await port_of(f"{valkeys.url}-of-somebody-else")


async def test_after_a_failover_the_primary_is_the_one_that_took_over(valkeys: Set) -> None:
    await valkeys.lose_the_primary()
    async with asyncio.timeout(20):
        while True:
            try:
                if await port_of(valkeys.url) == valkeys.replica.port:
                    return
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(0.1)
