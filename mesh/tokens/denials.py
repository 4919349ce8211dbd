"""Writes down that the access rules refused an authenticated caller: `access.denied`, in the service's own audit trail."""

from authmesh.audit.v1 import audit_event_pb2

from mesh.database import Database
from mesh.errors import MeshError
from mesh.outbox import Outbox
from mesh.rpc.call import Call
from mesh.tokens.authentication import OnDenied


def record_denials(database: Database, outbox: Outbox) -> OnDenied:
    """The `on_denied` of a service with a database. When the row can't be written the call is UNAVAILABLE: no denial goes unrecorded."""

    async def on_denied(call: Call, denial: MeshError) -> None:
        event = audit_event_pb2.AuditEvent(
            type="access.denied", outcome=audit_event_pb2.OUTCOME_FAILURE, reason=denial.reason, detail={"method": call.rpc.path}
        )
        async with database.transaction() as tx:
            await outbox.record(tx, event)

    return on_denied
