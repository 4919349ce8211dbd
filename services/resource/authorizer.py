"""The gate before a resource: who may not pass is put on record and refused."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from mesh.errors import MeshError
from mesh.outbox.work import UnitOfWork, Work
from mesh.tokens.denials import Denials
from services.resource import events, store
from services.resource.resource import Resource, Role, refusal


class Authorizer:
    """Opens resources for those who have the role that it takes."""

    def __init__(self, work: Work, denials: Denials) -> None:
        self._work = work
        self._denials = denials

    async def read(self, resource_id: UUID, caller: UUID, needed: Role) -> Resource:
        """The resource, as `caller` sees it.

        Raises:
            NotFound: RESOURCE_NOT_FOUND, it does not exist or the caller has no role.
            PermissionDenied: ROLE_MISSING, the caller's role is less than `needed`.
        """
        resource = await store.find(self._work.database, resource_id, caller)
        if denied := refusal(resource, needed):
            raise await self._recorded(denied, resource, caller)
        assert resource is not None
        return resource

    @asynccontextmanager
    async def change(self, resource_id: UUID, caller: UUID, needed: Role) -> AsyncIterator[tuple[UnitOfWork, Resource]]:
        """A transaction that holds the resource and its shares still, until the block ends.

        Raises:
            NotFound: RESOURCE_NOT_FOUND, it does not exist or the caller has no role.
            PermissionDenied: ROLE_MISSING, the caller's role is less than `needed`.
        """
        async with self._work.begin() as tx:
            resource = await store.lock(tx, resource_id, caller)
            denied = refusal(resource, needed)
            if denied is None:
                assert resource is not None
                yield tx, resource
                return
        raise await self._recorded(denied, resource, caller)

    async def _recorded(self, denied: MeshError, resource: Resource | None, caller: UUID) -> MeshError:
        """The refusal. It is on record if there is such a resource."""
        if resource:
            await self._denials.record(events.access_denied(resource.id, caller, denied.reason))
        return denied
