"""Delivery at once, beside the outbox.

An administrator who was answered knows that Token and Auth have heard of it, if they could be reached.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from grpc import aio

from mesh.errors import MeshError
from services.user.administration import Command

_log = structlog.get_logger("authmesh.courier")


class ChannelCourier:
    """Calls the methods through the egress, side by side."""

    def __init__(self, channel: aio.Channel, seconds: float) -> None:
        """Initializes the instance.

        Args:
            channel: Through the sidecar's egress.
            seconds: How long to wait for each.
        """
        self._channel = channel
        self._seconds = seconds

    async def deliver(self, commands: Sequence[Command]) -> None:
        """Delivers commands.

        What is not acknowledged in time is left to the outbox; receivers ignore what they know already.
        """
        await asyncio.gather(*(self._deliver(command) for command in commands))

    async def _deliver(self, command: Command) -> None:
        call: Any = self._channel.unary_unary(command.method, request_serializer=bytes, response_deserializer=bytes)
        try:
            await call(command.request.SerializeToString(), timeout=self._seconds)
        except MeshError as error:
            _log.warning("not delivered at once", method=command.method, reason=error.reason)


class NoCourier:
    """Leaves everything to the outbox of a process that runs elsewhere."""

    async def deliver(self, commands: Sequence[Command]) -> None:
        """Does nothing."""
