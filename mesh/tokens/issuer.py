"""What a node asks Token for, through its sidecar: the keys, and everything that is revoked.

Both are asked for in the background only.
"""

from collections.abc import AsyncGenerator

from authmesh.token.v1 import token_issuer_pb2, token_issuer_pb2_grpc, token_service_pb2, token_service_pb2_grpc
from grpc import aio

from mesh.errors import Reason, Unavailable
from mesh.tokens.revocations import Revocation, RevocationKind, Snapshot

SNAPSHOT_SECONDS = 30.0
"""Deadline of a snapshot: 1,000,000 entries take about eight."""


async def fetch_jwks(channel: aio.Channel) -> bytes:
    """The issuer's JWKS.

    Raises:
        MeshError: Token is out of reach.
    """
    answer = await token_service_pb2_grpc.TokenServiceStub(channel).GetJwks(token_service_pb2.GetJwksRequest())
    document: bytes = answer.data
    return document


async def fetch_snapshot(channel: aio.Channel) -> AsyncGenerator[Snapshot]:
    """Everything that is revoked and has not expired, in pieces.

    Raises:
        MeshError: Token is out of reach, or stopped in the middle.
    """
    call = token_issuer_pb2_grpc.TokenIssuerStub(channel).GetRevocationSnapshot(
        token_issuer_pb2.GetRevocationSnapshotRequest(), timeout=SNAPSHOT_SECONDS
    )
    async for piece in call:
        yield Snapshot(piece.epoch, piece.sequence, tuple(_revocation(item) for item in piece.revocations))


def _revocation(item: token_issuer_pb2.Revocation) -> Revocation:
    try:
        kind = RevocationKind(item.kind)
    except ValueError as error:
        # Of a newer release. What this process can't refuse it must not pretend to know.
        raise Unavailable(
            Reason.DEPENDENCY_UNAVAILABLE, f"the snapshot has revocations of a kind unknown here: {item.kind}"
        ) from error
    return Revocation(item.sequence, kind, item.value, item.not_before, item.expire_time)
