"""What User decides about credentials: who may sign in, and whose are erased."""

import uuid

from authmesh.audit.v1 import audit_event_pb2

from mesh.audit import subject_keys
from mesh.outbox.outbox import Outbox
from mesh.storage.database import Database
from services.auth.store import Accounts


class CredentialLifecycle:
    """Carries out User's commands. Each may come twice, and late."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox
        self._accounts = Accounts()

    async def set_status(self, user_id: uuid.UUID, *, disabled: bool, version: int) -> None:
        """Allows or forbids sign-in.

        Args:
            user_id: Whose. Somebody without an account here can't sign in anyway.
            disabled: Whether sign-in is forbidden.
            version: Counts the changes of the user; an older one than the known is ignored.
        """
        async with self._database.transaction() as tx:
            if await self._accounts.set_status(tx, user_id, disabled=disabled, version=version):
                detail = {"disabled": str(disabled).lower(), "version": str(version)}
                await self._outbox.record(
                    tx,
                    audit_event_pb2.AuditEvent(type="auth.status_changed", subject=f"users/{user_id}", detail=detail),
                )

    async def delete(self, user_id: uuid.UUID) -> None:
        """Erases everything that Auth knows of a user, and makes what is personal about them in its audit events
        unreadable.
        """
        subject = f"users/{user_id}"
        async with self._database.transaction() as tx:
            if await self._accounts.delete(tx, user_id):
                await self._outbox.record(
                    tx, audit_event_pb2.AuditEvent(type="auth.credentials_deleted", subject=subject)
                )
            # Also for somebody who never verified an address: there are events of every sign-up.
            await subject_keys.erase(tx, subject)
