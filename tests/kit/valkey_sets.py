"""Valkey servers that stand together: a set watched by a Sentinel, and a Cluster of three shards. Real processes, with
a password."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from mesh.local.infra import Infra
from mesh.local.ports import free_port
from mesh.tokens.feed import STREAM

PASSWORD = "of the tests"
SLOTS = 16384
PATIENCE = 30.0


class Node:
    """One valkey-server."""

    def __init__(self, directory: Path, name: str, lines: list[str], *, sentinel: bool = False) -> None:
        self.port = free_port()
        self._directory = directory / name
        self._directory.mkdir()
        self._arguments = ["--sentinel"] if sentinel else []
        configuration = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f'dir "{self._directory}"',
            'save ""',
            f'requirepass "{PASSWORD}"',
            *lines,
        ]
        self._file = self._directory / "conf"
        self._file.write_text("\n".join(configuration) + "\n")
        self._process: asyncio.subprocess.Process

    def configure(self, line: str) -> None:
        self._file.write_text(f"{self._file.read_text()}{line}\n")

    async def start(self) -> None:
        with (self._directory / "log").open("ab") as log:
            command = [str(Infra.find().valkey_server), str(self._file), *self._arguments]
            self._process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        await eventually(lambda: self.answers("PING"))

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def freeze(self) -> None:
        """Cut off: connections stay open, and nothing is answered."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    async def ask(self, *command: Any) -> Any:
        async with Redis(port=self.port, password=PASSWORD) as client:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]

    async def answers(self, *command: Any) -> bool:
        try:
            await self.ask(*command)
        except (RedisError, OSError):
            return False
        return True

    async def is_primary(self) -> bool:
        try:
            return bool((await self.ask("ROLE"))[0] in (b"master", "master"))
        except (RedisError, OSError):
            return False

    async def stop_replicating(self) -> None:
        """Lets a replica fall behind for good: what its primary is told from now on is lost with it."""
        await self.ask("CONFIG", "SET", "primaryauth", "wrong")
        for identity in await self._links():
            await self.ask("CLIENT", "KILL", "ID", identity)

    async def _links(self) -> list[str]:
        listed = await self.ask("CLIENT", "LIST", "TYPE", "master")
        text = listed if isinstance(listed, str) else listed.decode() if isinstance(listed, bytes) else ""
        if text:
            return [line.split(" ")[0].removeprefix("id=") for line in text.splitlines()]
        return [str(client["id"]) for client in listed]

    async def replicates(self) -> bool:
        """Whether the link to its primary is up."""
        try:
            return bool((await self.ask("ROLE"))[3] in (b"connected", "connected"))
        except (RedisError, OSError, IndexError):
            return False


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.05)


class Set:
    """Servers of which one is the primary for the revocation streams, and another its replica."""

    def __init__(self, url: str, primary: Node, replica: Node) -> None:
        self.url = url
        self.primary = primary
        self.replica = replica

    async def lose_the_primary(self) -> None:
        """Kills it; returns when the replica has taken over with what it has."""
        await self.primary.stop()
        await eventually(self.replica.is_primary)


@asynccontextmanager
async def sentinel_set(directory: Path) -> AsyncIterator[Set]:
    async with AsyncExitStack() as stack:

        async def start(name: str, *lines: str, sentinel: bool = False) -> Node:
            node = Node(directory, name, list(lines), sentinel=sentinel)
            stack.push_async_callback(node.stop)
            await node.start()
            return node

        auth = f'primaryauth "{PASSWORD}"'
        primary = await start("one", auth)
        replica = await start("two", auth, f"replicaof 127.0.0.1 {primary.port}")
        await eventually(replica.replicates)
        sentinel = await start(
            "sentinel",
            f"sentinel monitor feed 127.0.0.1 {primary.port} 1",
            f'sentinel auth-pass feed "{PASSWORD}"',
            "sentinel down-after-milliseconds feed 1000",
            "sentinel failover-timeout feed 5000",
            sentinel=True,
        )

        async def is_known() -> bool:
            return bool(await sentinel.ask("SENTINEL", "REPLICAS", "feed"))

        await eventually(is_known)
        yield Set(f"redis+sentinel://:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{sentinel.port}/feed", primary, replica)


@asynccontextmanager
async def cluster(directory: Path) -> AsyncIterator[Set]:
    async with AsyncExitStack() as stack:
        nodes = []
        for number in range(4):
            lines = [
                "cluster-enabled yes",
                "cluster-node-timeout 1000",
                "cluster-replica-validity-factor 0",
                f'primaryauth "{PASSWORD}"',
            ]
            # The bus is the port plus 10,000 by default, which may be beyond the last one.
            node, bus = Node(directory, f"node{number}", lines), free_port()
            node.configure(f"cluster-port {bus}")
            stack.push_async_callback(node.stop)
            await node.start()
            nodes.append(node)
            await nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        ranges = [(0, SLOTS // 3), (SLOTS // 3 + 1, 2 * SLOTS // 3), (2 * SLOTS // 3 + 1, SLOTS - 1)]
        for node, (start, end) in zip(nodes, ranges, strict=False):
            await node.ask("CLUSTER", "ADDSLOTSRANGE", start, end)
        slot = key_slot(STREAM.encode())
        owner = next(node for node, (start, end) in zip(nodes, ranges, strict=False) if start <= slot <= end)
        identity = await owner.ask("CLUSTER", "MYID")
        await eventually(lambda: nodes[3].answers("CLUSTER", "REPLICATE", identity))
        await eventually(nodes[3].replicates)

        async def is_whole() -> bool:
            states = [str(await node.ask("CLUSTER", "INFO")) for node in nodes]
            return all(
                "ok" in state
                and "cluster_state" in state
                and "fail'" not in state
                and "cluster_state:fail" not in state
                for state in states
            )

        await eventually(is_whole)
        listed = ",".join(f"127.0.0.1:{node.port}" for node in nodes if node is not owner)
        yield Set(f"redis+cluster://:{PASSWORD.replace(' ', '%20')}@{listed}", owner, nodes[3])
