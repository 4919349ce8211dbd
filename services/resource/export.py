"""What Resource holds of a person: what they own, whom they shared it with, and what was shared with them."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from uuid import UUID

from authmesh.export.v1.export_pb2 import ExportedItem
from google.protobuf import json_format

from mesh.export import exported
from mesh.storage.database import Database
from services.resource import share_store, store
from services.resource.answers import resource_message, share_message
from services.resource.resource import RESOURCE, Resource
from services.resource.share import Grantee, Share

_PAGE = 100
_FIRST = UUID(int=0)
_LAST = UUID(int=2**128 - 1)


class Export:
    """Hands it out, in pages: a person can own much."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def items(self, user: UUID, email: str) -> AsyncIterator[ExportedItem]:
        """Of a person. Of what belongs to others there is the share, and not the content."""
        async with aclosing(self._owned(user)) as resources:
            async for resource in resources:
                yield exported("resources", resource_message(resource))
        async with aclosing(self._owned(user)) as resources:
            async for resource in resources:
                async with aclosing(self._shares(resource.id)) as shares:
                    async for share in shares:
                        yield exported("sharesGiven", _content(share))
        async with aclosing(self._held(user, Grantee(email=email).key)) as shares:
            async for share in shares:
                yield exported("sharesHeld", _content(share))

    async def _owned(self, user: UUID) -> AsyncGenerator[Resource]:
        before, more = _LAST, True
        while more:
            page = await store.page(self._database, user, before, _PAGE)
            for resource in page.resources:
                if resource.owner == user:
                    yield resource
                before = resource.id
            more = page.more

    async def _shares(self, resource: UUID) -> AsyncGenerator[Share]:
        after = _FIRST
        while page := await share_store.page(self._database, resource, after, _PAGE):
            for share in page:
                yield share
            after = page[-1].id

    async def _held(self, user: UUID, name: str) -> AsyncGenerator[Share]:
        after = _FIRST
        while page := await share_store.page_of(self._database, user, name, after, _PAGE):
            for share in page:
                yield share
            after = page[-1].id


def _content(share: Share) -> dict[str, object]:
    return {"resource": RESOURCE.of(share.resource)} | json_format.MessageToDict(share_message(share))
