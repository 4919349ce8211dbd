"""KeyService: translates, delegates, and nothing else."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from authmesh.token.v1 import key_service_pb2, key_service_pb2_grpc
from grpc import aio

from services.token.keys.admin import KeyAdmin
from services.token.keys.key import KEY, SigningKey, State

Context = aio.ServicerContext[Any, Any]

_STATES = {
    State.PUBLISHED: key_service_pb2.Key.STATE_PUBLISHED,
    State.ACTIVE: key_service_pb2.Key.STATE_ACTIVE,
    State.RETIRING: key_service_pb2.Key.STATE_RETIRING,
    State.REVOKED: key_service_pb2.Key.STATE_REVOKED,
}


class KeyService(key_service_pb2_grpc.KeyServiceServicer):
    """Signing keys, for administrators."""

    def __init__(self, orders: KeyAdmin, *, clock: Callable[[], datetime]) -> None:
        """Initializes the instance.

        Args:
            orders: Carries them out.
            clock: The time.
        """
        self._orders = orders
        self._clock = clock

    async def ListKeys(
        self, request: key_service_pb2.ListKeysRequest, context: Context
    ) -> key_service_pb2.ListKeysResponse:
        """The keys."""
        keys = await self._orders.keys()
        due = self._orders.activation_time(keys)
        return key_service_pb2.ListKeysResponse(keys=[self._message(key, due) for key in keys])

    async def RotateKey(self, request: key_service_pb2.RotateKeyRequest, context: Context) -> key_service_pb2.Key:
        """Has the next key take over."""
        return self._message(*await self._orders.rotate())

    async def RevokeKey(self, request: key_service_pb2.RevokeKeyRequest, context: Context) -> key_service_pb2.Key:
        """Ends a key."""
        return self._message(await self._orders.revoke(KEY.id(request.name)), None)

    def _message(self, key: SigningKey, due: datetime | None) -> key_service_pb2.Key:
        state = key.state(self._clock())
        answer = key_service_pb2.Key(name=KEY.of(key.key_id), algorithm=key.algorithm, state=_STATES[state])
        answer.create_time.FromDatetime(key.publish_time)
        if active_time := due if state is State.PUBLISHED else key.active_time:
            answer.active_time.FromDatetime(active_time)
        if retire_time := key.retire_time or key.revoke_time:
            answer.retire_time.FromDatetime(retire_time)
        return answer
