"""Profiles: made once an address is verified, read, listed and changed."""

import uuid
from dataclasses import replace

from authmesh.resource.v1 import resource_directory_pb2

from mesh.outbox.work import Work
from mesh.resources.etag import require_etag
from services.user import events
from services.user.profile import User, not_found
from services.user.store import Match, Users

CLAIM_SHARES = "/authmesh.resource.v1.ResourceDirectory/ClaimShares"


class Profiles:
    """Everyone's profiles. Who may see or change which one is the access rules' business, decided before."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._users = Users()

    async def create(self, user_id: uuid.UUID, email: str, display_name: str) -> None:
        """Makes a profile. A repeat changes nothing, whatever it says."""
        now = self._work.now()
        user = User(
            user_id, email.lower(), display_name, (), disabled=False, version=1, create_time=now, update_time=now
        )
        async with self._work.begin() as tx:
            if not await self._users.add(tx, user):
                return
            tx.record(events.created(user))
            tx.command(CLAIM_SHARES, resource_directory_pb2.ClaimSharesRequest(user_id=str(user.id), email=user.email))

    async def get(self, user_id: uuid.UUID) -> User:
        """One profile.

        Raises:
            NotFound: USER_NOT_FOUND.
        """
        user = await self._users.get(self._work.database, user_id)
        if user is None:
            raise not_found()
        return user

    async def lookup(self, email: str) -> User:
        """The profile of an address.

        Raises:
            NotFound: USER_NOT_FOUND.
        """
        user = await self._users.by_email(self._work.database, email.lower())
        if user is None:
            raise not_found()
        return user

    async def page(self, after: uuid.UUID | None, size: int, email: str) -> list[User]:
        """Profiles in the order of their sign-ups.

        Args:
            after: The last user of the page before.
            size: The most profiles.
            email: Only the profile with this address; empty: all.
        """
        return await self._users.page(self._work.database, after=after, email=email.lower(), size=size)

    async def search(self, query: str, after: Match | None, size: int) -> list[tuple[Match, User]]:
        """Profiles whose address or name begins with `query`, in the order of what matched."""
        return await self._users.search(self._work.database, query, after=after, size=size)

    async def update(self, user_id: uuid.UUID, display_name: str | None, etag: str) -> User:
        """Changes a profile. One that says already what it shall say stays as it is, and so does its etag.

        Args:
            user_id: Whose.
            display_name: The new one; None leaves it.
            etag: Of the state that was read; empty: any.

        Raises:
            NotFound: USER_NOT_FOUND.
            Aborted: ETAG_MISMATCH.
        """
        async with self._work.begin() as tx:
            user = await self._users.lock(tx, user_id)
            if user is None:
                raise not_found()
            require_etag(user.etag, etag)
            if display_name is None or display_name == user.display_name:
                return user
            changed = await self._users.save(tx, replace(user, display_name=display_name), self._work.now())
            tx.record(events.updated(changed, "display_name"))
            return changed
