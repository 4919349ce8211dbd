"""What people do with resources.

Each of it is one transaction: the change, its audit event, and the word to those who watch.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from mesh.errors import Reason, Unauthenticated, quota_exceeded
from mesh.outbox.work import Work
from mesh.resources.etag import require_etag
from mesh.resources.request_id import request_id_reused
from services.resource import events, store
from services.resource.authorizer import Authorizer
from services.resource.change_log import ChangeLog
from services.resource.resource import Draft, Resource, Role, edited
from services.resource.share import Change

REQUEST_ID_LIFETIME = timedelta(hours=24)
"""How long a request id is remembered (docs/contract.md, "Conventions")."""


class Resources:
    """The resources of everyone."""

    def __init__(
        self,
        work: Work,
        changes: ChangeLog,
        gate: Authorizer,
        *,
        quota: int,
        new_id: Callable[[], UUID],
    ) -> None:
        """Initializes the instance.

        Args:
            work: Of this service.
            changes: The log of changes.
            gate: Lets callers through to resources.
            quota: How many resources one person may own.
            new_id: Makes ids.
        """
        self._work = work
        self._changes = changes
        self._gate = gate
        self._quota = quota
        self._new_id = new_id

    async def create(self, caller: UUID, draft: Draft, request_id: UUID | None) -> Resource:
        """Makes a resource that `caller` owns.

        A repeat with the same request id answers what the first time answered, whatever became of the resource since.

        Raises:
            InvalidArgument: REQUEST_ID_REUSED, the request id came with another draft before.
            ResourceExhausted: QUOTA_EXCEEDED, the caller owns as many resources as they may.
            Unauthenticated: TOKEN_REVOKED, the caller's account was deleted.
        """
        now = self._work.now()
        resource = _first_state(self._new_id(), caller, draft, now)
        async with self._work.begin() as tx:
            if request_id is not None:
                creation = store.Creation(draft.digest(), resource.id, now)
                earlier = await store.claim_request(tx, caller, request_id, creation, now - REQUEST_ID_LIFETIME)
                if earlier is not None:
                    return _repeated(earlier, caller, draft)
            await store.hold_owner(tx, caller)
            if await store.is_erased(tx, caller):
                raise Unauthenticated(Reason.TOKEN_REVOKED, "the account was deleted")
            if await store.owns(tx, caller, self._quota):
                raise quota_exceeded(f"you own {self._quota} resources, and more are not possible: delete one first")
            await store.insert(tx, resource)
            tx.record(events.created(resource))
            await self._changes.append(tx, Change.ADDED, resource.id, caller)
        return resource

    async def get(self, caller: UUID, resource_id: UUID) -> Resource:
        """Reads a resource.

        Raises:
            NotFound: RESOURCE_NOT_FOUND.
        """
        return await self._gate.read(resource_id, caller, Role.READER)

    async def page(self, caller: UUID, before: UUID, size: int) -> store.Page:
        """The newest resources that `caller` can see with ids below `before`.

        At most `size`, and what fits into one message.
        """
        return await store.page(self._work.database, caller, before, size)

    async def update(
        self, caller: UUID, resource_id: UUID, given: Draft, fields: Collection[str], etag: str
    ) -> Resource:
        """Changes these fields. An update that changes nothing writes nothing.

        Raises:
            NotFound: RESOURCE_NOT_FOUND.
            PermissionDenied: ROLE_MISSING, the caller is a reader.
            Aborted: ETAG_MISMATCH.
        """
        async with self._gate.change(resource_id, caller, Role.EDITOR) as (tx, resource):
            require_etag(resource.etag, etag)
            draft = edited(resource.draft, given, fields)
            if draft == resource.draft:
                return resource
            changed = replace(resource, draft=draft, version=resource.version + 1, updated_at=self._work.now())
            await store.update(tx, changed)
            written = [field for field in Draft.__slots__ if getattr(draft, field) != getattr(resource.draft, field)]
            tx.record(events.updated(changed, caller, written))
            await self._changes.announce(tx, changed)
        return changed

    async def delete(self, caller: UUID, resource_id: UUID, etag: str) -> None:
        """Deletes a resource. Its shares go when those who have them were told.

        Raises:
            NotFound: RESOURCE_NOT_FOUND.
            PermissionDenied: ROLE_MISSING, the caller is not the owner.
            Aborted: ETAG_MISMATCH.
        """
        async with self._gate.change(resource_id, caller, Role.OWNER) as (tx, resource):
            require_etag(resource.etag, etag)
            await self._changes.announce(tx, resource, removed=True)
            await store.delete(tx, resource.id)
            tx.record(events.deleted(resource, caller))


def _first_state(resource_id: UUID, owner: UUID, draft: Draft, now: datetime) -> Resource:
    return Resource(
        id=resource_id, owner=owner, draft=draft, version=1, created_at=now, updated_at=now, role=Role.OWNER
    )


def _repeated(earlier: store.Creation, caller: UUID, draft: Draft) -> Resource:
    if earlier.digest != draft.digest():
        raise request_id_reused("resource")
    # The first answer is a function of what is remembered and of the draft, which is the same: no copy of it is kept.
    return _first_state(earlier.resource, caller, draft, earlier.created_at)
