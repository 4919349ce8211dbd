"""Snapshots of the revocation log, whole."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from mesh.tokens.revocations import Snapshot


async def whole(pieces: AsyncGenerator[Snapshot]) -> Snapshot:
    """All pieces as one."""
    async with aclosing(pieces):
        read = [piece async for piece in pieces]
    return Snapshot(
        read[-1].epoch, read[-1].sequence, tuple(revocation for piece in read for revocation in piece.revocations)
    )


async def nothing_revoked(epoch: str = "e") -> AsyncGenerator[Snapshot]:
    """The snapshot of an empty log."""
    yield Snapshot(epoch, 0, ())
