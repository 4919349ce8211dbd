"""What becomes of a user's resources and shares when the user is deleted.

A user is marked first: from then on nothing becomes theirs. Then everything is done in batches, each a transaction, so
that a call that was interrupted goes on where it was when it comes again.
"""

from dataclasses import replace
from uuid import UUID

from mesh.audit import subject_keys
from mesh.outbox.work import UnitOfWork, Work
from mesh.resources.name import USER
from services.resource import events, share_store, store
from services.resource.change_log import ChangeLog
from services.resource.resource import Resource, Role
from services.resource.share import Grantee, transition

BATCH = 50


class Erasure:
    """Carries out what User decides about someone who is gone."""

    def __init__(self, work: Work, changes: ChangeLog) -> None:
        self._work = work
        self._changes = changes

    async def erase(self, user: UUID, email: str, new_owner: UUID | None) -> None:
        """Deletes the resources of `user` or hands them over, and takes back every share that names the user.

        Args:
            user: Who is gone.
            email: Their address.
            new_owner: Who gets the resources. None, or someone who is gone as well: they are deleted.
        """
        async with self._work.begin() as tx:
            await store.hold_owner(tx, user)
            await store.mark_erased(tx, user)
        while await self._leave_resources(user, new_owner):
            pass
        names = [Grantee(user=user).key, Grantee(email=email).key]
        while await self._take_back_shares(user, names):
            pass
        async with self._work.begin() as tx:
            await store.forget_requests(tx, user)
            await subject_keys.erase(tx, USER.of(user))

    async def _leave_resources(self, user: UUID, new_owner: UUID | None) -> bool:
        """Deletes or hands over a batch. Returns whether there was anything."""
        async with self._work.begin() as tx:
            if new_owner is not None:
                await store.hold_owner(tx, new_owner)
                if await store.is_erased(tx, new_owner):
                    new_owner = None
            resources = await store.lock_owned(tx, user, BATCH)
            for resource in resources:
                if new_owner is not None:
                    await self._hand_over(tx, resource, new_owner)
                else:
                    await self._changes.announce(tx, resource, removed=True)
                    await store.delete(tx, resource.id)
                    tx.record(events.deleted(resource, user))
        return bool(resources)

    async def _hand_over(self, tx: UnitOfWork, resource: Resource, new_owner: UUID) -> None:
        before = await store.find(tx, resource.id, new_owner)
        assert before is not None, "it is locked"
        for share in await share_store.remove_held(tx, resource.id, new_owner):
            tx.record(events.unshared(share))
        changed = replace(resource, owner=new_owner, version=resource.version + 1, updated_at=self._work.now())
        await store.change_owner(tx, changed)
        tx.record(events.owner_changed(changed))
        if change := transition(before.role, Role.OWNER):
            await self._changes.append(tx, change, resource.id, new_owner)
        await self._changes.announce(tx, changed)

    async def _take_back_shares(self, user: UUID, names: list[str]) -> bool:
        """Takes back a batch. Returns whether there was anything. No one is told: who held them is gone."""
        async with self._work.begin() as tx:
            shares = await share_store.remove_of(tx, user, names, BATCH)
            for share in shares:
                tx.record(events.unshared(share))
        return bool(shares)
