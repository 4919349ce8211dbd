"""Profiles: made once an address is verified, read, listed and changed."""

import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace

from authmesh.resource.v1 import resource_directory_pb2

from mesh.errors import field_invalid
from mesh.outbox.work import Work
from mesh.resources import page_token
from services.user import events
from services.user.profile import User, demand_etag, fields_to_change, not_found
from services.user.store import Users

CLAIM_SHARES = "/authmesh.resource.v1.ResourceDirectory/ClaimShares"
DEFAULT_PAGE_SIZE = 50


class Profiles:
    """Everybody's profiles. Who may see or change which one is the access rules' business, decided before."""

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

    async def page(self, size: int, token: str, email: str) -> tuple[list[User], str]:
        """A page of profiles, and the token of the next one; empty when this is the last.

        Args:
            size: The most profiles; 0: the default.
            token: The token that the page before came with, or empty.
            email: Only the profile with this address; empty: all.

        Raises:
            InvalidArgument: FIELD_INVALID `page_token`.
        """
        size, email = size or DEFAULT_PAGE_SIZE, email.lower()
        list_name = f"users?email={email}"
        after = _parse(page_token.decode(list_name, token)) if token else None
        users = await self._users.page(self._work.database, after=after, email=email, size=size + 1)
        more = len(users) > size
        return users[:size], page_token.encode(list_name, str(users[size - 1].id)) if more else ""

    async def update(self, user_id: uuid.UUID, given: Mapping[str, str], mask: Collection[str], etag: str) -> User:
        """Changes a profile. One that says already what it shall say stays as it is, and so does its etag.

        Args:
            user_id: Whose.
            given: The fields that are set in the request, with their values.
            mask: Which fields to change.
            etag: Of the state that was read; empty: any.

        Raises:
            NotFound: USER_NOT_FOUND.
            Aborted: ETAG_MISMATCH.
            InvalidArgument: FIELD_INVALID.
        """
        fields = fields_to_change(mask, given)
        name = given.get("display_name", "") if "display_name" in fields else None
        async with self._work.begin() as tx:
            user = await self._users.lock(tx, user_id)
            if user is None:
                raise not_found()
            demand_etag(user, etag)
            if name is None or name == user.display_name:
                return user
            changed = await self._users.save(tx, replace(user, display_name=name), self._work.now())
            tx.record(events.updated(changed, "display_name"))
            return changed


def _parse(key: str) -> uuid.UUID:
    try:
        return uuid.UUID(key)
    except ValueError:
        raise field_invalid("page_token", "is not a token of this list") from None
