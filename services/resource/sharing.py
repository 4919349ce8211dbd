"""What people do with shares. Each of it is one transaction."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

from mesh.errors import field_invalid, quota_exceeded
from mesh.outbox.work import UnitOfWork, Work
from mesh.storage.database import Transaction
from services.resource import events, share_store, store
from services.resource.authorizer import Authorizer
from services.resource.change_log import ChangeLog
from services.resource.resource import Resource, Role
from services.resource.share import MAX_SHARES, Grantee, Share, transition
from services.resource.share_claims import LOOKUP_PAUSE, ShareClaims

EVEN_SECONDS = 0.05
"""How long a call about someone takes at least: longer than a lookup and what follows from it, so that the time tells
no more than the answer.
"""


class Sharing:
    """Gives and takes access."""

    def __init__(
        self,
        work: Work,
        changes: ChangeLog,
        gate: Authorizer,
        claims: ShareClaims,
        *,
        new_id: Callable[[], UUID],
    ) -> None:
        self._work = work
        self._changes = changes
        self._gate = gate
        self._claims = claims
        self._new_id = new_id

    async def share(self, caller: UUID, resource_id: UUID, grantee: Grantee, role: Role) -> Share:
        """Gives `grantee` a role, in place of the one that a share by the same name gave.

        The answer is the same whether there is such a user or not, and it does not depend on User: a share finds its
        holder at once or, when User is unavailable, later (`share_claims`).

        Raises:
            NotFound: RESOURCE_NOT_FOUND.
            PermissionDenied: ROLE_MISSING, the caller is not the owner.
            InvalidArgument: FIELD_INVALID, the owner themselves.
            ResourceExhausted: QUOTA_EXCEEDED, the resource has as many shares as it may.
        """
        async with _evenly():
            async with self._gate.change(resource_id, caller, Role.OWNER) as (tx, resource):
                share = await self._put(tx, resource, grantee, role)
            if share.holder is None:
                await self._claims.look_up(share)
        return share

    async def _put(self, tx: UnitOfWork, resource: Resource, grantee: Grantee, role: Role) -> Share:
        if grantee.user == resource.owner:
            raise field_invalid("user", "owns the resource")
        earlier = await share_store.find(tx, resource.id, grantee)
        if earlier and earlier.role == role and earlier.grantee == grantee:
            return earlier
        if not earlier and await share_store.count(tx, resource.id) >= MAX_SHARES:
            raise quota_exceeded(
                f"the resource has {MAX_SHARES} shares, and more are not possible: take one back first"
            )
        share = (
            replace(earlier, role=role, grantee=grantee)
            if earlier
            else Share(self._new_id(), resource.id, grantee, holder=None, role=role, created_at=self._work.now())
        )
        before = await self._role(tx, share)
        await share_store.put(tx, share, self._work.now() + LOOKUP_PAUSE if share.holder is None else None)
        tx.record(events.shared(share))
        await self._announce(tx, share, before)
        return share

    async def page(self, caller: UUID, resource_id: UUID, after: UUID, size: int) -> list[Share]:
        """The `size` oldest shares with ids above `after`.

        Raises:
            NotFound: RESOURCE_NOT_FOUND.
            PermissionDenied: ROLE_MISSING, the caller is not the owner.
        """
        await self._gate.read(resource_id, caller, Role.OWNER)
        return await share_store.page(self._work.database, resource_id, after, size)

    async def unshare(self, caller: UUID, resource_id: UUID, grantee: Grantee) -> None:
        """Takes the share back that names `grantee`.

        People who are not the owner give back all their own shares by naming themselves, and one of them by naming its
        address. A share that isn't there is no error.

        Raises:
            NotFound: RESOURCE_NOT_FOUND.
            PermissionDenied: ROLE_MISSING, someone else's share, and the caller is not the owner.
        """
        own = grantee.user == caller or (
            grantee.email is not None and await self._is_held(resource_id, grantee, caller)
        )
        async with (
            _evenly(),
            self._gate.change(resource_id, caller, Role.READER if own else Role.OWNER) as (tx, resource),
        ):
            before = resource.role if own else await self._role(tx, await share_store.find(tx, resource_id, grantee))
            if grantee.user == caller:
                removed = await share_store.remove_held(tx, resource_id, caller)
            else:
                removed = await share_store.remove(tx, resource_id, grantee)
            for share in removed:
                tx.record(events.unshared(share))
            for share in removed[-1:]:
                await self._announce(tx, share, before)

    async def _is_held(self, resource_id: UUID, grantee: Grantee, holder: UUID) -> bool:
        share = await share_store.find(self._work.database, resource_id, grantee)
        return share is not None and share.holder == holder

    async def _role(self, tx: Transaction, share: Share | None) -> Role | None:
        """The role of a share's holder with its resource, whatever it comes from."""
        if share is None or share.holder is None:
            return None
        seen = await store.find(tx, share.resource, share.holder)
        return seen.role if seen else None

    async def _announce(self, tx: Transaction, share: Share, before: Role | None) -> None:
        """Tells the holder of a share what became of their role."""
        change = transition(before, await self._role(tx, share))
        if change and share.holder:
            await self._changes.append(tx, change, share.resource, share.holder)


@asynccontextmanager
async def _evenly() -> AsyncIterator[None]:
    """Makes calls about someone take equally long, with an account and without."""
    end = asyncio.get_running_loop().time() + EVEN_SECONDS
    yield
    await asyncio.sleep(end - asyncio.get_running_loop().time())
