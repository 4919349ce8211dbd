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
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

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
    topology: Topology
    hosts: tuple[tuple[str, int], ...] = ()
    """Of Sentinels, or of some of a Cluster's nodes."""
    service: str = ""
    """What Sentinels call the set."""
    username: str | None = None
    password: str | None = None
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> Self:
        """Reads an address.

        Raises:
            ValueError: it is none; the message names the part and never repeats it, for there may be a password in it.
        """
        # Not by urlsplit: it knows one host to an address, and late versions refuse an IPv6 address among several.
        scheme, _, rest = url.partition("://")
        authority, _, path = rest.partition("/")
        base, _, topology = scheme.partition("+")
        if scheme in ("redis", "rediss", "unix"):
            return cls(url, Topology.ONE)
        if base not in ("redis", "rediss") or topology not in (Topology.SENTINEL, Topology.CLUSTER):
            raise ValueError("must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
        credentials, _, listed = authority.rpartition("@")
        username, _, password = credentials.partition(":")
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
            unquote(username) or None,
            unquote(password) or None,
            tls=base == "rediss",
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
        options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "socket_timeout": None, "client_name": name}
        options["socket_connect_timeout"] = CONNECT_SECONDS
        if self.topology is Topology.ONE:
            client = Redis.from_url(self.url, **options)
        else:
            host, port = await (self._ask_sentinels() if self.topology is Topology.SENTINEL else self._ask_cluster(key))
            client = Redis(host=host, port=port, **self._identity, **options)
        async with client:
            yield client

    @property
    def _identity(self) -> dict[str, Any]:
        return {"username": self.username, "password": self.password, "ssl": self.tls}

    async def _ask_sentinels(self) -> tuple[str, int]:
        async def ask(host: str, port: int, options: dict[str, Any]) -> tuple[str, int] | None:
            async with Sentinel([(host, port)], sentinel_kwargs=options) as sentinel:  # type: ignore[no-untyped-call]
                address: tuple[str, int] = await sentinel.discover_master(self.service)
                return address

        return await self._ask(ask)

    async def _ask_cluster(self, key: str) -> tuple[str, int]:
        slot = key_slot(key.encode())

        async def ask(host: str, port: int, options: dict[str, Any]) -> tuple[str, int] | None:
            async with Redis(host=host, port=port, **options) as node:
                ranges: Any = await node.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
                return _primary(ranges, slot)

        return await self._ask(ask)

    async def _ask(
        self, ask: Callable[[str, int, dict[str, Any]], Awaitable[tuple[str, int] | None]]
    ) -> tuple[str, int]:
        """The first answer of those that know.

        A node that has no other name for itself says nothing: it is the one that was asked.

        One by one, each within its time: redis-py's `Sentinel` would ask several itself, but one that takes the
        connection and never answers holds it up for as long as `socket_timeout` allows (see `connect` for why there is
        none).
        """
        options = {"socket_timeout": None, "retry": Retry(NoBackoff(), 0), **self._identity}
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
