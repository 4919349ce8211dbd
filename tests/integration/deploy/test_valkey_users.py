"""The users of Valkey in deploy/aws/data.yaml may do what the code does with them, on a real Valkey, and no more."""

import uuid
from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from mesh.cloudformation.stacks import chosen
from mesh.local.components import valkey
from mesh.outbox.work import Work
from mesh.storage.database import Database
from mesh.tokens.feed import STREAM
from mesh.tokens.revocations import RevocationKind
from services.token.revocation.log import RevocationLog
from services.token.revocation.publisher import Publisher
from tests.conftest import OpenDatabase
from tests.integration.services.token.conftest import Clock
from tests.kit.revocation_feed import Consumer, eventually, running

USERS = {
    resource["Properties"]["UserName"]: resource["Properties"]["AccessString"]
    for stack in chosen(["data"])
    for resource in stack.template.resources.values()
    if resource["Type"] == "AWS::ElastiCache::User"
}


@pytest.fixture
async def urls(valkey_server: valkey.Valkey, valkey_url: str) -> AsyncIterator[Mapping[str, str]]:
    """A Valkey with these users, and their addresses."""
    async with Redis.from_url(valkey_url) as administrator:
        for name, access in USERS.items():
            if name != "default":
                await administrator.execute_command("ACL", "SETUSER", name, "reset", ">password", *access.split())  # type: ignore[no-untyped-call]
        yield {name: f"unix://{name}:{quote('password')}@{valkey_server.socket}?db=0" for name in USERS}
        for name in USERS:
            if name != "default":
                await administrator.execute_command("ACL", "DELUSER", name)  # type: ignore[no-untyped-call]


@pytest.fixture
async def database(open_database: OpenDatabase) -> Database:
    return await open_database("services.token")


async def test_a_revocation_goes_from_the_publisher_to_a_reader(urls: Mapping[str, str], database: Database) -> None:
    log = RevocationLog(database)
    reader = Consumer(urls["authmesh-reader"], log)
    async with running(Publisher(urls["authmesh-publisher"], log), reader.feed):
        await eventually(lambda: reader.feed.loaded)
        async with Work(database, "token").begin() as tx:
            await log.append(tx, RevocationKind.SESSION, [str(uuid.uuid4())], Clock()())
        await eventually(lambda: reader.knows(1))


@pytest.mark.parametrize("command", [
    ("XADD", STREAM, "*", "epoch", "forged"), ("DEL", STREAM), ("SET", STREAM, "x"), ("GET", "another"), ("FLUSHALL",),
    ("CONFIG", "GET", "*"), ("ACL", "LIST"), ("KEYS", "*"), ("EVAL", "return 1", "0"),
])  # fmt: skip
async def test_a_reader_changes_nothing(urls: Mapping[str, str], command: tuple[str, ...]) -> None:
    async with Redis.from_url(urls["authmesh-reader"]) as reader:
        with pytest.raises(NoPermissionError):
            await reader.execute_command(*command)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("command", [
    ("SET", "another", "x"), ("XADD", "another", "*", "a", "b"), ("FLUSHALL",), ("CONFIG", "SET", "maxmemory", "1"),
    ("KEYS", "*"), ("EVAL", "return 1", "0"), ("ACL", "LIST"),
])  # fmt: skip
async def test_the_publisher_writes_its_streams_only(urls: Mapping[str, str], command: tuple[str, ...]) -> None:
    async with Redis.from_url(urls["authmesh-publisher"]) as publisher:
        with pytest.raises(NoPermissionError):
            await publisher.execute_command(*command)  # type: ignore[no-untyped-call]


def test_the_default_user_may_do_nothing() -> None:
    assert USERS["default"] == "off -@all"
