"""Where Redis or Valkey is: one server, a set watched by Sentinels, or a Cluster. `REDIS_URL` says which.

    redis://[user:password@]host[:port][/db]
        one server; rediss:// with TLS, unix:// over a socket
    redis+sentinel://[user:password@]host[:port][,host…]/NAME
        the primary of the set that the Sentinels call NAME
    redis+cluster://[user:password@]host[:port][,host…]
        whichever primary of the Cluster has the key's slot
    rediss+sentinel://, rediss+cluster://
        the same over TLS

The mesh keeps two streams in one slot, so in all three forms there is one primary to talk to. It is looked up when a
connection is made, and a connection that breaks, is redirected or falls silent is made anew: no client that follows
topologies is on the hot path.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from mesh.secrets.login import Login, Logins
from mesh.secrets.source import SecretUnavailableError

CONNECT_SECONDS = 2.0
"""How long one server may take to be reached, and to answer while the primary is looked for."""

_SENTINEL_PORT, _PORT = 26379, 6379


class Topology(StrEnum):
    """How the servers stand together."""

    ONE = "one"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A parsed `REDIS_URL`."""

    url: str
    """Without user name and password."""
    topology: Topology
    hosts: tuple[tuple[str, int], ...] = ()
    """Of Sentinels, or of some of a Cluster's nodes."""
    service: str = ""
    """What Sentinels call the set."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    logins: Logins | None = None
    """What takes the place of the two, where they are rotated."""

    @classmethod
    def parse(cls, url: str, logins: Logins | None = None) -> Self:
        """Reads an address.

        Args:
            url: `REDIS_URL`.
            logins: What takes the place of its user name and password.

        Raises:
            ValueError: it is none; the message names the part and never repeats it, for there may be a password in it.
        """
        # Not by urlsplit: it knows one host to an address, and late versions refuse an IPv6 address among several.
        scheme, _, rest = url.partition("://")
        authority, slash, path = rest.partition("/")
        base, _, topology = scheme.partition("+")
        credentials, _, listed = authority.rpartition("@")
        username, _, password = credentials.partition(":")
        identity: dict[str, Any] = {
            "username": unquote(username) or None,
            "password": unquote(password) or None,
            "logins": logins,
        }
        if scheme in ("redis", "rediss", "unix"):
            return cls(f"{scheme}://{listed}{slash}{path}", Topology.ONE, **identity)
        if base not in ("redis", "rediss") or topology not in (Topology.SENTINEL, Topology.CLUSTER):
            raise ValueError("must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
        port = _SENTINEL_PORT if topology == Topology.SENTINEL else _PORT
        service = unquote(path.strip("/"))
        if topology == Topology.SENTINEL and not service:
            raise ValueError("names no set: redis+sentinel://host:26379/NAME")
        if topology == Topology.CLUSTER and service:
            raise ValueError("a Cluster has one database, which has no name")
        return cls(
            url,
            Topology(topology),
            tuple(_host(host, port) for host in listed.split(",")),
            service,
            tls=base == "rediss",
            **identity,
        )

    @asynccontextmanager
    async def connect(self, key: str, *, name: str) -> AsyncIterator[Redis]:
        """A client of the primary that has `key`.

        It retries nothing: its users connect again, and so look for the primary again.

        Bound every command with `asyncio.timeout`: redis-py's own `socket_timeout`, on by default, goes through
        `asyncio.wait_for`, which in Python 3.11 swallows a cancellation that comes when a command was just sent, and
        then a task that was cancelled runs on forever.

        Args:
            key: Decides which primary of a Cluster.
            name: How the connection calls itself.

        Raises:
            RedisError, OSError, TimeoutError: no one can be reached who knows, or there is no primary at the moment.
        """
        if self.logins is None:
            client = await self._client(key, name, Login(self.username, self.password))
        else:
            try:
                client = await self.logins.enter(partial(self._entered, key, name), AuthenticationError)
            except SecretUnavailableError as error:
                raise RedisConnectionError(str(error)) from None
        async with client:
            yield client

    async def _entered(self, key: str, name: str, login: Login) -> Redis:
        """A client whose login the server has accepted."""
        client = await self._client(key, name, login)
        pool: Any = client.connection_pool
        try:
            # Connects without a command that a user may not be allowed.
            async with asyncio.timeout(CONNECT_SECONDS):
                await pool.release(await pool.get_connection())
        except BaseException:
            await client.aclose()
            raise
        return client

    async def _client(self, key: str, name: str, login: Login) -> Redis:
        options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "socket_timeout": None, "client_name": name}
        options["socket_connect_timeout"] = CONNECT_SECONDS
        if self.topology is not Topology.ONE:
            identity = self._identity(login)
            ask = self._ask_sentinels if self.topology is Topology.SENTINEL else partial(self._ask_cluster, key)
            host, port = await ask(identity)
            return Redis(host=host, port=port, **identity, **options)
        return Redis.from_url(self.url, **self._credentials(login), **options)

    def _credentials(self, login: Login) -> dict[str, Any]:
        return {"username": login.username or self.username, "password": login.password}

    def _identity(self, login: Login) -> dict[str, Any]:
        return self._credentials(login) | {"ssl": self.tls}

    async def _ask_sentinels(self, identity: dict[str, Any]) -> tuple[str, int]:
        async def ask(host: str, port: int, options: dict[str, Any]) -> tuple[str, int] | None:
            async with Sentinel([(host, port)], sentinel_kwargs=options) as sentinel:  # type: ignore[no-untyped-call]
                address: tuple[str, int] = await sentinel.discover_master(self.service)
                return address

        return await self._ask(ask, identity)

    async def _ask_cluster(self, key: str, identity: dict[str, Any]) -> tuple[str, int]:
        slot = key_slot(key.encode())

        async def ask(host: str, port: int, options: dict[str, Any]) -> tuple[str, int] | None:
            async with Redis(host=host, port=port, **options) as node:
                ranges: Any = await node.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
                return _primary(ranges, slot)

        return await self._ask(ask, identity)

    async def _ask(
        self, ask: Callable[[str, int, dict[str, Any]], Awaitable[tuple[str, int] | None]], identity: dict[str, Any]
    ) -> tuple[str, int]:
        """The first answer of those that know.

        A node that has no other name for itself says nothing: it is the one that was asked.

        One by one, each within its time: redis-py's `Sentinel` would ask several itself, but one that takes the
        connection and never answers holds it up for as long as `socket_timeout` allows (see `connect` for why there is
        none).
        """
        options = {"socket_timeout": None, "retry": Retry(NoBackoff(), 0), **identity}
        problem: Exception = RedisConnectionError("no primary answers")
        for host, port in self.hosts:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    found = await ask(host, port, options)
            except (RedisError, OSError, TimeoutError) as error:
                problem = error
                continue
            if found is not None:
                return found[0] or host, found[1]
        raise problem


def _host(text: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    # `port` raises for one that is none.
    if not parts.hostname:
        raise ValueError("a host has no name")
    return parts.hostname, parts.port or default_port


def _primary(ranges: Any, slot: int) -> tuple[str, int] | None:
    # redis-py parses the answer in some versions and leaves it alone in others.
    if isinstance(ranges, dict):
        for (first, last), nodes in ranges.items():
            if int(first) <= slot <= int(last):
                host, port = nodes["primary"][:2]
                return _text(host), int(port)
        return None
    for first, last, primary, *_ in ranges:
        if first <= slot <= last:
            return _text(primary[0]), int(primary[1])
    return None


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
