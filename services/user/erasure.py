"""Deleting a user everywhere.

The profile goes at once, in one transaction with the commands to those who hold something of the user: Token, Auth,
Resource and Audit. The outbox carries them until each has acknowledged it, so a deletion that began comes to its end.
"""

import uuid

from authmesh.audit.v1 import audit_directory_pb2
from authmesh.auth.v1 import credential_directory_pb2
from authmesh.resource.v1 import resource_directory_pb2
from authmesh.token.v1 import token_issuer_pb2

from mesh.audit import subject_keys
from mesh.errors import field_invalid
from mesh.outbox.work import Work
from mesh.resources.etag import require_etag
from services.user import events
from services.user import roles as rules
from services.user.administration import Command, CommandPusher
from services.user.profile import User, not_found
from services.user.store import Users


class Erasure:
    """Deletes users."""

    def __init__(self, work: Work, courier: CommandPusher) -> None:
        self._work = work
        self._courier = courier
        self._users = Users()

    async def erase(self, user_id: uuid.UUID, etag: str, new_owner: uuid.UUID | None) -> None:
        """Deletes a user, and has the other services erase what they hold.

        Args:
            user_id: Whom.
            etag: Only this state of the user; empty: any.
            new_owner: Who gets the resources that the user owns. None: they are deleted.

        Raises:
            NotFound: USER_NOT_FOUND.
            Aborted: ETAG_MISMATCH.
            FailedPrecondition: LAST_ADMINISTRATOR.
            InvalidArgument: FIELD_INVALID `new_owner`.
        """
        if new_owner == user_id:
            raise field_invalid("new_owner", "is the user who is deleted")
        async with self._work.begin() as tx:
            administrators = await self._users.lock_administrators(tx)
            found = await self._users.lock_all(tx, [user_id, new_owner] if new_owner else [user_id])
            user = found.get(user_id)
            if user is None:
                raise not_found()
            require_etag(user.etag, etag)
            rules.demand_administrator_left(administrators, user.id)
            if new_owner and (new_owner not in found or found[new_owner].disabled):
                raise field_invalid("new_owner", "there is no such user")
            await self._users.delete(tx, user_id)
            tx.record(events.deleted(user))
            at_once, later = _commands(user, new_owner)
            for command in (*at_once, *later):
                tx.command(command.method, command.request)
            await subject_keys.erase(tx, user.name)
        await self._courier.deliver(at_once)


def _commands(user: User, new_owner: uuid.UUID | None) -> tuple[list[Command], list[Command]]:
    """Those that end what the user can do, and those that may take a while."""
    subject = str(user.id)
    return [
        Command("/authmesh.token.v1.TokenIssuer/DeleteSubject", token_issuer_pb2.DeleteSubjectRequest(subject=subject)),
        Command(
            "/authmesh.auth.v1.CredentialDirectory/DeleteSubject",
            credential_directory_pb2.DeleteSubjectRequest(subject=subject),
        ),
    ], [
        Command(
            "/authmesh.resource.v1.ResourceDirectory/DeleteSubject",
            resource_directory_pb2.DeleteSubjectRequest(
                subject=subject, email=user.email, new_owner=str(new_owner or "")
            ),
        ),
        Command(
            "/authmesh.audit.v1.AuditDirectory/DeleteSubject",
            audit_directory_pb2.DeleteSubjectRequest(subject=subject),
        ),
    ]
