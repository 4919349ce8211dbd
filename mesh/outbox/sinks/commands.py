"""The sink that carries commands to other services of the mesh.

A change that crosses services is a row first and an idempotent RPC after it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog
from grpc import aio

from mesh.errors import MeshError
from mesh.outbox.sink import BatchResult, Entry, Sink

_log = structlog.get_logger("authmesh.commands")


class CommandSink(Sink):
    """Calls the method that a command names, through the egress.

    A command is done when the service acknowledged it; until then it comes again. It is never put aside: what it asks
    for must happen, and its age raises the alarm of the backlog.
    """

    kind = "command"
    batch = 16

    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel

    def connect(self) -> AbstractAsyncContextManager[aio.Channel]:
        """The channel: it is open already."""

        @asynccontextmanager
        async def channel() -> AsyncIterator[aio.Channel]:
            yield self._channel

        return channel()

    async def send(self, client: aio.Channel, entries: Sequence[Entry]) -> BatchResult:
        """Sends the commands side by side."""
        acknowledged = await asyncio.gather(*(self._call(client, entry) for entry in entries))
        return BatchResult(accepted=[entry.id for entry, done in zip(entries, acknowledged, strict=True) if done])

    async def _call(self, channel: aio.Channel, entry: Entry) -> bool:
        call = channel.unary_unary(entry.destination, request_serializer=bytes, response_deserializer=bytes)
        try:
            await call(entry.payload)
        except MeshError as error:
            _log.warning(
                "command not acknowledged", method=entry.destination, reason=error.reason, attempts=entry.attempts
            )
            return False
        return True
