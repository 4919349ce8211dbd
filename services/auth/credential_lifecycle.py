"""What User decides about credentials: who may sign in, and whose are erased."""

import uuid

from mesh.audit import subject_keys
from mesh.outbox.work import Work
from mesh.resources.name import USER
from services.auth import events
from services.auth.identity_provider import IdentityProvider
from services.auth.store import Accounts


class CredentialLifecycle:
    """Carries out User's commands. Each may come twice, and late."""

    def __init__(self, work: Work, provider: IdentityProvider) -> None:
        self._work = work
        self._provider = provider
        self._accounts = Accounts()

    async def set_status(self, user_id: uuid.UUID, *, disabled: bool, version: int) -> None:
        """Allows or forbids sign-in.

        Args:
            user_id: Whose. Someone without an account here can't sign in anyway.
            disabled: Whether sign-in is forbidden.
            version: Counts the changes of the user; an older one than the known is ignored.
        """
        async with self._work.begin() as tx:
            if await self._accounts.set_status(tx, user_id, disabled=disabled, version=version):
                tx.record(events.status_changed(user_id, disabled=disabled, version=version))

    async def delete(self, user_id: uuid.UUID) -> None:
        """Erases everything that Auth knows of a user, and tells the person.

        What is personal about the user in Auth's audit events can't be read any more.

        Raises:
            Unavailable: the identity provider can't be reached: nothing is erased yet.
        """
        await self._provider.delete(user_id)
        async with self._work.begin() as tx:
            if email := await self._accounts.delete(tx, user_id):
                tx.record(events.credentials_deleted(user_id))
                tx.message(email=email, kind="account_deleted")
            # Also for someone who never verified an address: there are events of every sign-up.
            await subject_keys.erase(tx, USER.of(user_id))
