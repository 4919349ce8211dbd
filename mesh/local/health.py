"""Whether a gRPC server serves, by grpc.health.v1, over a connection that is kept."""

from pathlib import Path
from typing import Any

TIMEOUT = 2.0
"""Seconds to wait for an answer."""


class GrpcHealth:
    """A probe of one server on a unix socket."""

    def __init__(self, socket: Path) -> None:
        self._target = f"unix:{socket}"
        self._channel: Any = None
        self._check: Any = None
        self._list: Any = None
        self.lacks: tuple[str, ...] = ()
        """The subsystems that it waited for when it was asked last."""

    async def __call__(self) -> bool:
        """Whether it answers SERVING."""
        # The largest import of the runner: done when the first service is already starting.
        import grpc
        from grpc_health.v1 import health_pb2 as published

        # Its published types don't have List yet.
        health_pb2: Any = published
        if self._channel is None:
            # A server that was restarted must be found again within a probe or two.
            backoff = [
                ("grpc.min_reconnect_backoff_ms", 50),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 500),
            ]
            self._channel = grpc.aio.insecure_channel(self._target, options=backoff)
            self._check = self._channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            self._list = self._channel.unary_unary(
                "/grpc.health.v1.Health/List",
                request_serializer=health_pb2.HealthListRequest.SerializeToString,
                response_deserializer=health_pb2.HealthListResponse.FromString,
            )
        serving = health_pb2.HealthCheckResponse.SERVING
        try:
            healthy = (await self._check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)).status == serving
            listed = {} if healthy else (await self._list(health_pb2.HealthListRequest(), timeout=TIMEOUT)).statuses
        except grpc.aio.AioRpcError:
            self.lacks = ()
            return False
        # Services have full names; what has a plain one is a subsystem.
        self.lacks = tuple(
            sorted(name for name, answer in listed.items() if name and "." not in name and answer.status != serving)
        )
        return bool(healthy)

    async def close(self) -> None:
        """Closes the connection."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
