"""Valkey behind TLS, with an ACL user whose password is rotated while the feed goes on. ElastiCache is like that.

No Valkey that can be installed here by a package of Python has TLS, so a server of the test's own ends it in front of
one: handshake, certificate and names are real.
"""

import asyncio
import ipaddress
import ssl
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from mesh.local.authority import LOOPBACK, Authority
from mesh.local.components.valkey import Valkey
from mesh.outbox.work import Work
from mesh.secrets.login import Logins
from mesh.secrets.source import FileSecret
from mesh.storage.redis_address import RedisAddress
from mesh.tokens.feed import STREAM, RevocationFeed
from mesh.tokens.revocations import RevocationKind
from services.token.revocation.log import RevocationLog
from services.token.revocation.publisher import Publisher
from tests.conftest import OpenDatabase
from tests.integration.services.token.conftest import Clock
from tests.kit.revocation_feed import Consumer, eventually, running

USER = "authmesh-reader"


@pytest.fixture
async def tls_url(valkey_server: Valkey, tmp_path: Path) -> AsyncIterator[str]:
    """`rediss://` in front of the Valkey."""
    authority = Authority.load_or_create(tmp_path, "redis", LOOPBACK[:1])
    certificate, key = authority.issue([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    (tmp_path / "server.pem").write_bytes(certificate + key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem")

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(valkey_server.socket)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            except OSError:
                pass
            finally:
                target.close()

        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    server = await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path / 'redis.crt'}"


@asynccontextmanager
async def acl_user(url: str, password: str) -> AsyncIterator[Redis]:
    """The administrator of a Valkey that has the user."""
    async with Redis.from_url(url) as administrator:
        admin: Any = administrator
        await admin.execute_command("ACL", "SETUSER", USER, "reset", "on", f">{password}", "~*", "+@all")
        yield administrator
        await admin.execute_command("ACL", "DELUSER", USER)


def secret(path: Path, password: str) -> Logins:
    write(path, password)
    return Logins(FileSecret(path))


def write(path: Path, password: str) -> None:
    path.write_text(f'{{"username": "{USER}", "password": "{password}"}}')
    path.chmod(0o600)


async def test_a_password_is_rotated_and_the_feed_never_grows_stale(
    valkey_url: str, tls_url: str, tmp_path: Path, open_database: OpenDatabase
) -> None:
    log = RevocationLog(database := await open_database("services.token"))
    consumer = Consumer(valkey_url, log)
    logins, stalest = secret(tmp_path / "login", "one"), 0.0
    consumer.feed = RevocationFeed(tls_url, consumer.load, consumer.known, logins=logins)
    publisher = Publisher(tls_url, log, logins=logins)

    async def revoke() -> None:
        async with Work(database, "token").begin() as tx:
            await log.append(tx, RevocationKind.SESSION, [str(uuid.uuid4())], Clock()())

    async with acl_user(valkey_url, "one") as administrator, running(publisher, consumer.feed):
        admin: Any = administrator
        await eventually(lambda: consumer.feed.loaded and consumer.feed.staleness() < 1)
        # As ElastiCache does it: two passwords for a while, and the secret in between.
        await admin.execute_command("ACL", "SETUSER", USER, ">two")
        write(tmp_path / "login", "two")
        await admin.execute_command("ACL", "SETUSER", USER, "<one")
        await revoke()
        await eventually(lambda: consumer.knows(1))
        # The server ends the connections, as at its maintenance: only the new password lets anyone in.
        await admin.execute_command("CLIENT", "KILL", "USER", USER)
        await revoke()
        until = time.monotonic() + 2
        while not consumer.knows(2) or time.monotonic() < until:
            stalest = max(stalest, consumer.feed.staleness())
            await asyncio.sleep(0.01)
        # Methods that bear the least staleness bear 5 s.
        assert stalest < 5
        assert consumer.snapshots == 1


async def test_neither_a_stranger_nor_a_wrong_name_is_taken_for_the_server(
    valkey_url: str, tls_url: str, tmp_path: Path
) -> None:
    async with acl_user(valkey_url, "one"):
        good = RedisAddress.parse(tls_url, secret(tmp_path / "login", "one"))
        async with good.connect(STREAM, name="test") as client:
            assert await client.ping()
        for url in (tls_url.partition("?")[0], tls_url.replace("127.0.0.1", "localhost")):
            assert "certificate" in await refusal(url, secret(tmp_path / "login", "one"))
        assert "swordfish" not in await refusal(tls_url, secret(tmp_path / "login", "wrong-swordfish"))


async def refusal(url: str, logins: Logins) -> str:
    with pytest.raises(RedisConnectionError) as error:
        async with RedisAddress.parse(url, logins).connect(STREAM, name="test"):
            pass
    return str(error.value)
