"""Audit, as the other services use it."""

import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from authmesh.audit.v1 import audit_directory_pb2
from authmesh.audit.v1.audit_directory_pb2_grpc import AuditDirectoryServicer
from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from authmesh.export.v1 import export_pb2
from google.protobuf import empty_pb2

from mesh.audit import subject_keys
from mesh.export import exported
from mesh.outbox.work import Work
from mesh.resources.name import USER
from services.audit import events
from services.audit.reading.projection import Filters, Projection

_PAGE = 200


class AuditDirectory(AuditDirectoryServicer):
    """`authmesh.audit.v1.AuditDirectory`."""

    def __init__(self, work: Work, projection: Projection) -> None:
        self._work = work
        self._projection = projection

    async def DeleteSubject(self, request: audit_directory_pb2.DeleteSubjectRequest, context: Any) -> empty_pb2.Empty:
        """See the contract."""
        user = USER.of(uuid.UUID(request.subject))
        async with self._work.begin() as tx:
            if await subject_keys.erase(tx, user):
                tx.record(events.subject_erased(user))
        return empty_pb2.Empty()

    async def ExportSubject(
        self, request: export_pb2.ExportSubjectRequest, context: Any
    ) -> AsyncIterator[export_pb2.ExportedItem]:
        """See the contract."""
        user = USER.of(uuid.UUID(request.subject))
        async with aclosing(self._events(user)) as events_of_user:
            async for event in events_of_user:
                yield exported("auditEvents", event)

    async def _events(self, user: str) -> AsyncGenerator[AuditEvent]:
        """About someone, then what they did to others; the newest first."""
        for filters in (Filters(subject=user), Filters(actor=user)):
            before, more = None, True
            while more:
                page, more = await self._projection.page(filters, before, _PAGE)
                for stored in page:
                    before = stored.time, stored.position
                    if filters.subject or stored.event.subject != user:
                        yield stored.event
