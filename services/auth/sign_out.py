"""The end of sessions that a new password brings with it."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import structlog
from authmesh.token.v1 import token_issuer_pb2
from google.protobuf import empty_pb2

from mesh.errors import MeshError
from mesh.outbox.work import UnitOfWork
from services.auth.mfa import REVOKE_SUBJECT
from services.auth.second_factors import SecondFactors
from services.auth.store import ResetCodes

RevokeSubject = Callable[[token_issuer_pb2.RevokeSubjectRequest], Awaitable[empty_pb2.Empty]]
"""Ends a person's sessions in Token; raises `MeshError` as Token refuses."""
AT_ONCE_SECONDS = 2.0
"""How long an answer waits for Token to have ended the sessions. What takes longer arrives by the outbox."""

_log = structlog.get_logger("authmesh.passwords")


class SignOut:
    """Ends sessions, and what the old password or another code has begun."""

    def __init__(self, revoke_subject: RevokeSubject, factors: SecondFactors) -> None:
        self._revoke_subject = revoke_subject
        self._factors = factors
        self._codes = ResetCodes()

    async def order(
        self, tx: UnitOfWork, user_id: uuid.UUID, *, keep: uuid.UUID | None
    ) -> token_issuer_pb2.RevokeSubjectRequest:
        """Writes it down: codes and challenges are void, and Token will end the sessions but `keep`."""
        await self._codes.delete(tx, user_id)
        await self._factors.void_challenges(tx, user_id)
        order = token_issuer_pb2.RevokeSubjectRequest(
            subject=str(user_id), request_id=str(uuid.uuid4()), keep_session=str(keep) if keep else ""
        )
        tx.command(REVOKE_SUBJECT, order)
        return order

    async def carry_out(self, order: token_issuer_pb2.RevokeSubjectRequest) -> None:
        """Has Token end the sessions now, so that the answer says that they are ended.

        The command in the outbox remains: a repeat changes nothing.
        """
        try:
            async with asyncio.timeout(AT_ONCE_SECONDS):
                await self._revoke_subject(order)
        except (MeshError, TimeoutError) as error:
            _log.warning("sessions end later: Token was not reached at once", error=type(error).__name__)
