"""Audit, as the other services use it."""

import uuid
from typing import Any

from authmesh.audit.v1 import audit_directory_pb2
from authmesh.audit.v1.audit_directory_pb2_grpc import AuditDirectoryServicer
from google.protobuf import empty_pb2

from mesh.audit import subject_keys
from mesh.outbox.work import Work
from mesh.resources.name import USER
from services.audit import events


class AuditDirectory(AuditDirectoryServicer):
    """`authmesh.audit.v1.AuditDirectory`."""

    def __init__(self, work: Work) -> None:
        self._work = work

    async def DeleteSubject(self, request: audit_directory_pb2.DeleteSubjectRequest, context: Any) -> empty_pb2.Empty:
        """See the contract."""
        user = USER.of(uuid.UUID(request.subject))
        async with self._work.begin() as tx:
            if await subject_keys.erase(tx, user):
                tx.record(events.subject_erased(user))
        return empty_pb2.Empty()
