"""TokenIssuer: translates, delegates, and nothing else."""

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from authmesh.token.v1 import token_issuer_pb2, token_issuer_pb2_grpc, token_set_pb2
from google.protobuf import empty_pb2
from grpc import aio

from mesh.tokens.revocations import Revocation
from services.token.answers import token_set
from services.token.revocation_log import RevocationLog
from services.token.sign_in import SignIn, SignInDesk
from services.token.subjects import SubjectDesk

Context = aio.ServicerContext[Any, Any]
PIECE = 2000
"""Revocations in one message of a snapshot: about 200 KB."""


class TokenIssuer(token_issuer_pb2_grpc.TokenIssuerServicer):
    """Token, as the other services use it."""

    def __init__(self, sign_ins: SignInDesk, subjects: SubjectDesk, log: RevocationLog, *, clock: Callable[[], datetime]) -> None:
        """Args:
        sign_ins: Starts sessions.
        subjects: Follows what User decides.
        log: What is revoked.
        clock: The time.
        """
        self._sign_ins = sign_ins
        self._subjects = subjects
        self._log = log
        self._clock = clock

    async def IssueTokens(self, request: token_issuer_pb2.IssueTokensRequest, context: Context) -> token_set_pb2.TokenSet:
        """Starts a session."""
        device = request.device
        sign_in = SignIn(
            subject=uuid.UUID(request.subject),
            client_id=request.client_id,
            instance_id=uuid.UUID(device.instance_id) if device.instance_id else None,
            display_name=device.display_name,
            platform=device.platform,
            scopes=frozenset(request.scopes),
            auth_time=request.auth_time.ToDatetime(UTC),
            amr=tuple(request.amr),
            address=request.address,
            user_agent=request.user_agent,
        )
        return token_set(await self._sign_ins.issue(sign_in))

    async def SetSubjectGrants(self, request: token_issuer_pb2.SetSubjectGrantsRequest, context: Context) -> empty_pb2.Empty:
        """Takes over roles and status."""
        await self._subjects.set_grants(uuid.UUID(request.subject), request.roles, request.disabled, request.version)
        return empty_pb2.Empty()

    async def RevokeSubject(self, request: token_issuer_pb2.RevokeSubjectRequest, context: Context) -> empty_pb2.Empty:
        """Ends everything of a person."""
        await self._subjects.revoke(uuid.UUID(request.subject), uuid.UUID(request.request_id))
        return empty_pb2.Empty()

    async def GetRevocationSnapshot(
        self, request: token_issuer_pb2.GetRevocationSnapshotRequest, context: Context
    ) -> AsyncIterator[token_issuer_pb2.GetRevocationSnapshotResponse]:
        """Everything that is revoked. An empty log is one message without entries."""
        snapshot = await self._log.snapshot(self._clock())
        for start in range(0, max(len(snapshot.revocations), 1), PIECE):
            piece = snapshot.revocations[start : start + PIECE]
            yield token_issuer_pb2.GetRevocationSnapshotResponse(
                epoch=snapshot.epoch, sequence=snapshot.sequence, revocations=[_message(revocation) for revocation in piece]
            )


def _message(revocation: Revocation) -> token_issuer_pb2.Revocation:
    return token_issuer_pb2.Revocation(
        sequence=revocation.sequence,
        kind=token_issuer_pb2.Revocation.Kind.ValueType(revocation.kind),
        value=revocation.value,
        not_before=revocation.not_before,
        expire_time=revocation.expires_at,
    )
