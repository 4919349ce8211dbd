"""How a share finds its holder.

The share is committed first, without a holder, and then User is asked. So nothing is missed: who had an account before
the question is in its answer, and for who gets one later User calls ClaimShares, which sees the share. When User is
away the question is asked again, here, until it is answered.
"""

from datetime import timedelta
from uuid import UUID

import structlog

from mesh.errors import DeadlineExceeded, MeshError, Unavailable
from mesh.outbox.work import Work
from mesh.runtime.periodic import Periodic
from services.resource import events, share_store, store
from services.resource.change_log import ChangeLog
from services.resource.share import Grantee, Share, transition
from services.resource.user_lookup import UserLookup

LOOKUP_PAUSE = timedelta(seconds=10)
"""After this long a lookup that was begun and not ended is begun again."""
BATCH = 50

_log = structlog.get_logger("authmesh.claims")


class ShareClaims(Periodic):
    """Gives shares to the people whom they name."""

    name = "share_claims"
    seconds = 2.0
    log = _log

    def __init__(self, work: Work, changes: ChangeLog, people: UserLookup) -> None:
        self._work = work
        self._changes = changes
        self._people = people

    async def claim(self, user: UUID, email: str) -> None:
        """Gives `user`, who has verified `email`, every share that was offered to either. Idempotent.

        Someone who was deleted since gets none.
        """
        if await store.is_erased(self._work.database, user):
            return
        names = [Grantee(user=user).key, Grantee(email=email).key]
        while shares := await share_store.unclaimed(self._work.database, names, BATCH):
            for share in shares:
                await self._settle(share, user)

    async def look_up(self, share: Share) -> bool:
        """Asks whom a share names, and settles it. Returns False when no one could be asked; `run` asks again."""
        try:
            holder = await self._people.find(share.grantee)
        except (Unavailable, DeadlineExceeded):
            return False
        except MeshError as error:
            # User refuses this one question: it must not keep the others waiting.
            _log.error("grantee not looked up", share=str(share.id), reason=error.reason, cause=error.message)
            return True
        await self._settle(share, holder)
        return True

    async def _settle(self, share: Share, holder: UUID | None) -> None:
        if holder is None:
            await share_store.settle(self._work.database, share.id, None)
            return
        async with self._work.begin() as tx:
            seen_before = await store.lock(tx, share.resource, holder)
            # One of a resource that was deleted gets no holder, who would be told of the deletion.
            if not await share_store.settle(tx, share.id, holder if seen_before else None):
                return
            seen_now = await store.find(tx, share.resource, holder)
            assert seen_before is not None
            assert seen_now is not None
            if share.grantee.user is None:
                # Of a share by id the event that it was given says who has it.
                tx.record(events.claimed(share, holder))
            if change := transition(seen_before.role, seen_now.role):
                await self._changes.append(tx, change, share.resource, holder)

    async def step(self) -> bool:
        """Ends lookups that were not ended when the share was given."""
        now = self._work.now()
        shares = await share_store.take_lookups(self._work.database, now, now + LOOKUP_PAUSE, BATCH)
        for number, share in enumerate(shares):
            if not await self.look_up(share):
                _log.warning("grantees not looked up: User did not answer", waiting=len(shares) - number)
                return False
        return bool(shares)
